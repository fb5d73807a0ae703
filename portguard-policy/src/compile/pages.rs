//! Lays the tables out as pages: see `portguard_common::image` for the layout.

use super::cgroup_trie::Cgroups;
use super::classes::{self, Classes, Interval, RuleSet};
use super::error::{CompileError, MAX_USER_WORDS};
use super::lpm::Addresses;
use crate::policy::{Log, Mode, Policy, Rule, Scope};
use portguard_common::{
    ABI_VERSION, HeaderFlags, MAX_RULES, PAGE_WORDS, PORT_TABLE_START, PORTS_PER_PAGE, Page,
    Protocol, RuleWord, UserWord, VECTOR_WORDS, VECTORS_PER_PAGE, Verdict, hits_pages,
};

/// Pages of a port table.
const PORT_PAGES: usize = 65_536 / PORTS_PER_PAGE;

/// Builds the image of `policy`.
pub(super) fn build(
    policy: &Policy,
    users: &[Interval<u64>],
    cgroups: &Cgroups,
    addresses: &Addresses,
) -> Result<Vec<Page>, CompileError> {
    let mut image = Builder {
        pages: vec![Page::ZERO],
    };
    let mut header = Page::ZERO;
    header.set_abi(u64::from(ABI_VERSION));
    header.set_flags(header_flags(policy));
    header.set_default_word(u64::from(
        RuleWord::new(policy.default, reports(policy.log, policy.default), false).0,
    ));
    header.set_trie_root_flags(u64::from(cgroups.root_flags));
    header.set_unresolved_class(cgroups.unresolved as u64);

    let ports = image.port_tables(policy, &mut header)?;
    let mut user_classes = Classes::new();
    image.user_pages(users, &mut user_classes, &mut header)?;
    header.set_deny_vector(user_classes.push(denies(policy)) as u64);

    header.set_user_vectors(image.vectors(user_classes.sets()));
    header.set_port_vectors(image.vectors(ports.sets()));
    header.set_cgroup_vectors(image.vectors(cgroups.classes.sets()));
    header.set_address_vectors(image.vectors(addresses.classes.sets()));
    header.set_rule_page(image.rule_page(policy));
    header.set_rule_count(policy.rules.len() as u64);
    header.set_hits_page(image.next());
    let hits = hits_pages(policy.rules.len());
    image.pages.extend(std::iter::repeat_n(Page::ZERO, hits));
    if let Some(first) = image.pages.first_mut() {
        *first = header;
    }
    Ok(image.pages)
}

/// The flags of a policy's header.
fn header_flags(policy: &Policy) -> u64 {
    let mut flags = 0;
    if policy.mode == Mode::Enforce {
        flags |= HeaderFlags::ENFORCE;
    }
    if policy.scope == Scope::All {
        flags |= HeaderFlags::ALL_NETNS;
    }
    let mut named = false;
    for rule in &policy.rules {
        // Exhaustive: a new field must be compiled.
        let Rule {
            name: _,
            action,
            ports: _,
            protocols: _,
            users,
            groups,
            cgroups,
            units,
            addresses,
            audit,
            log: _,
            errno: _,
            location: _,
        } = rule;
        named |= cgroups.is_some() || units.is_some();
        if groups.is_some() {
            flags |= HeaderFlags::GROUP_RULES | HeaderFlags::GROUP_OR_ADDRESS_RULES;
        }
        if *action == Verdict::Deny && (users.is_some() || groups.is_some()) {
            flags |= HeaderFlags::OWNER_RULES;
        }
        if addresses.is_some() {
            flags |= HeaderFlags::GROUP_OR_ADDRESS_RULES;
        }
        if *action != Verdict::Kernel && !audit {
            flags |= HeaderFlags::ACTS;
        }
    }
    if policy.default != Verdict::Kernel {
        flags |= HeaderFlags::ACTS;
    }
    if named {
        flags |= HeaderFlags::CGROUP_RULES;
    }
    flags
}

/// Whether a decision of this verdict makes an event under `log`.
fn reports(log: Log, verdict: Verdict) -> bool {
    match log {
        Log::All => true,
        Log::Deny => verdict == Verdict::Deny,
        Log::None => false,
    }
}

fn denies(policy: &Policy) -> RuleSet {
    let mut set = RuleSet::empty(policy.rules.len());
    for (i, rule) in policy.rules.iter().enumerate() {
        if rule.action == Verdict::Deny {
            set.insert(i);
        }
    }
    set
}

struct Builder {
    pages: Vec<Page>,
}

impl Builder {
    fn next(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Appends words as pages; `unused` fills the last one.
    fn words(&mut self, words: &[u64], unused: u64) {
        for chunk in words.chunks(PAGE_WORDS) {
            let mut page = Page::ZERO;
            for i in 0..PAGE_WORDS {
                // Cannot fail: the index is within the page.
                let _ = page.set(i, chunk.get(i).copied().unwrap_or(unused));
            }
            self.pages.push(page);
        }
    }

    /// The port table of each protocol; equal tables are shared.
    fn port_tables(&mut self, policy: &Policy, header: &mut Page) -> Result<Classes, CompileError> {
        let mut classes = Classes::new();
        // Class 0 means "not protected". It is reserved, because protected ports without rules have the same
        // empty set.
        classes.push(RuleSet::empty(policy.rules.len()));
        let mut tables: Vec<(Vec<u64>, u64)> = Vec::new();
        debug_assert_eq!(self.next(), u64::from(PORT_TABLE_START));
        for protocol in Protocol::ALL {
            let words = port_words(policy, protocol, &mut classes);
            let page = match tables.iter().find(|(known, _)| *known == words) {
                Some((_, page)) => *page,
                None => {
                    let page = self.next();
                    self.words(&words, 0);
                    tables.push((words, page));
                    page
                }
            };
            header.set_port_table(protocol, page);
        }
        classes.check("ports")?;
        Ok(classes)
    }

    fn user_pages(
        &mut self,
        users: &[Interval<u64>],
        classes: &mut Classes,
        header: &mut Page,
    ) -> Result<(), CompileError> {
        if users.len() > MAX_USER_WORDS {
            return Err(CompileError::TooManyUsers(users.len()));
        }
        let words: Vec<u64> = users
            .iter()
            .map(|user| UserWord::new(user.start as u32, classes.number(&user.rules) as u32).0)
            .collect();
        let index: Vec<u64> = words.iter().step_by(PAGE_WORDS).copied().collect();
        self.words(&index, UserWord::UNUSED.0);
        header.set_user_pages(self.next());
        header.set_user_page_count(index.len() as u64);
        self.words(&words, UserWord::UNUSED.0);
        Ok(())
    }

    /// Appends a run of vectors; returns its first page.
    fn vectors(&mut self, sets: &[RuleSet]) -> u64 {
        let first = self.next();
        for chunk in sets.chunks(VECTORS_PER_PAGE) {
            let words: Vec<u64> = chunk.iter().flat_map(RuleSet::vector).collect();
            debug_assert!(words.len() <= VECTORS_PER_PAGE * VECTOR_WORDS);
            self.words(&words, 0);
        }
        first
    }

    fn rule_page(&mut self, policy: &Policy) -> u64 {
        let page = self.next();
        let mut bytes = vec![0u8; MAX_RULES];
        for (byte, rule) in bytes.iter_mut().zip(&policy.rules) {
            let log = rule.log.unwrap_or(policy.log);
            let word = RuleWord::new(rule.action, reports(log, rule.action), rule.audit);
            *byte = word.with_errno(rule.errno).0;
        }
        let words: Vec<u64> = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|eight| u64::from_le_bytes(*eight))
            .collect();
        self.words(&words, 0);
        page
    }
}

/// The classes of all 65,536 ports for `protocol`, four to a word.
fn port_words(policy: &Policy, protocol: Protocol, classes: &mut Classes) -> Vec<u64> {
    let mut words = vec![0u64; PORT_PAGES * PAGE_WORDS];
    let intervals = classes::ports(&policy.rules, protocol);
    let numbers: Vec<(u64, u64)> = intervals
        .iter()
        .map(|interval| (interval.start, classes.number(&interval.rules) as u64))
        .collect();
    for range in &policy.protect {
        for port in range.clone() {
            let at = numbers.partition_point(|(start, _)| *start <= u64::from(port));
            let class = numbers
                .get(at.wrapping_sub(1))
                .map_or(0, |(_, class)| *class);
            let word = usize::from(port) / 4;
            let shift = (port % 4) * 16;
            words[word] = words[word] & !(0xffff << shift) | class << shift;
        }
    }
    words
}
