//! Policy -> tables: the image that `decide` reads, and the trie of cgroup names.
//!
//! Pure: the same policy gives the same tables, whose digest names the policy in events.

mod cgroup_trie;
mod classes;
mod evaluate;
mod glob_dfa;
mod lpm;
mod pages;
mod witness;

pub(crate) use classes::ports_of_rules;
pub(crate) use witness::{addresses as address_witnesses, cgroups as cgroup_witnesses};

use crate::policy::{Policy, PolicyTest};
use portguard_common::{
    AddressKey, GroupKey, HeaderFlags, MAX_CLASSES, MAX_RULES, NameKey, Page, Protocol, TrieKey,
    TrieNode, VectorWords, Verdict,
};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use thiserror::Error;
use zerocopy::IntoBytes;

/// Why a policy cannot be compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// More rules than a vector has bits.
    #[error(
        "the policy has {0} rules, the limit is {MAX_RULES}: merge rules or split the policy over hosts"
    )]
    TooManyRules(usize),
    /// More user ranges than the user pages hold.
    #[error("the policy names {0} distinct user ranges, the limit is {limit}: use ranges", limit = pages::MAX_USER_WORDS)]
    TooManyUsers(usize),
    /// More sets of rules by port or by cgroup than 16 bits number. (User classes have 31 bits.)
    #[error(
        "the rules make {0} classes of {1}, the limit is {MAX_CLASSES}: let more rules share the same {1}"
    )]
    TooManyClasses(usize, &'static str),
    /// More cgroup paths than the map of names holds.
    #[error("the rules name {0} distinct cgroups, the limit is {limit}", limit = cgroup_trie::MAX_NODES)]
    TooManyCgroups(usize),
    /// Names with `*` whose automaton is too large.
    #[error(
        "the {0} names with `*` in cgroups and units are too complex together: use fewer that have a `*` at their beginning or in their middle"
    )]
    PatternsTooComplex(usize),
    /// More networks than the map of addresses holds.
    #[error("the rules name {0} distinct networks, the limit is {limit}", limit = lpm::MAX_ADDRESSES)]
    TooManyAddresses(usize),
    /// More blocks of gids than the map of groups holds.
    #[error("the rules name {0} distinct blocks of groups, the limit is {limit}", limit = lpm::MAX_GROUPS)]
    TooManyGroups(usize),
}

/// A compiled policy.
#[derive(Clone)]
pub struct Tables {
    pages: Vec<Page>,
    trie: Vec<TrieEntry>,
    names: Vec<NameEntry>,
    addresses: Vec<AddressEntry>,
    groups: Vec<GroupEntry>,
    generation: u16,
    digest: [u8; 32],
    rule_names: Vec<String>,
    distinct_users: usize,
}

/// An entry of the cgroup trie map.
#[derive(Clone, Copy)]
pub struct TrieEntry {
    /// The key: parent node and name.
    pub key: TrieKey,
    /// The child.
    pub node: TrieNode,
}

/// An entry of the map of names with `*`: state and byte, and what follows.
pub type NameEntry = (NameKey, u32);

/// An entry of the map of addresses.
#[derive(Clone, Copy)]
pub struct AddressEntry {
    /// Bits of the key that count.
    pub prefix: u32,
    /// The network.
    pub key: AddressKey,
    /// Its class.
    pub class: u32,
}

/// An entry of the map of groups.
#[derive(Clone, Copy)]
pub struct GroupEntry {
    /// Bits of the key that count.
    pub prefix: u32,
    /// The first gid.
    pub key: GroupKey,
    /// The rules that name all gids of the block.
    pub rules: VectorWords,
}

/// A bind as userspace asks about it.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'a> {
    /// Port, host byte order.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Every gid that counts: real, effective and supplementary.
    pub gids: &'a [u32],
    /// The caller's cgroup: its components below the root.
    pub cgroup: &'a [&'a str],
    /// The address; an IPv4-mapped one counts as IPv4.
    pub address: IpAddr,
    /// Whether an address `::` takes IPv4 too: the socket is not `IPV6_V6ONLY`. Then it is `0.0.0.0` as well:
    /// `allow` and `kernel` rules want both named, `deny` rules take either.
    pub dual_stack: bool,
}

impl<'a> Bind<'a> {
    /// What an entry of `tests:` asks about; `cgroup` is its own, as the components of a bind are.
    #[must_use]
    pub fn of_test(test: &'a PolicyTest, cgroup: &'a [&'a str]) -> Self {
        Self {
            port: test.port,
            protocol: test.protocol,
            uid: test.user,
            euid: test.user,
            gids: &test.groups,
            cgroup,
            address: test.address,
            dual_stack: true,
        }
    }
}

/// Compiles a policy as number `generation` (from 1) of its maps.
///
/// # Errors
/// Where a table would be larger than the kernel side can read.
pub fn compile(policy: &Policy, generation: u16) -> Result<Tables, CompileError> {
    if policy.rules.len() > MAX_RULES {
        return Err(CompileError::TooManyRules(policy.rules.len()));
    }
    let cgroups = cgroup_trie::build(&policy.rules, generation, cgroup_trie::MAX_NODES)?;
    let addresses = lpm::addresses(&policy.rules, generation)?;
    let users = classes::users(&policy.rules);
    let pages = pages::build(policy, generation, &users, &cgroups, &addresses)?;
    let mut tables = Tables {
        pages,
        trie: cgroups.entries,
        names: cgroups.names,
        addresses: addresses.entries,
        groups: lpm::groups(&policy.rules, generation)?,
        generation,
        digest: [0; 32],
        rule_names: policy.rules.iter().map(|rule| rule.name.clone()).collect(),
        distinct_users: classes::distinct_users(&policy.rules),
    };
    tables.digest = tables.hash();
    Ok(tables)
}

impl Tables {
    /// The image, page by page.
    #[must_use]
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// The entries of the cgroup trie.
    #[must_use]
    pub fn trie(&self) -> &[TrieEntry] {
        &self.trie
    }

    /// The SHA-256 of the policy's content: equal for equal policies, whatever their generation.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The first 12 hex digits of the digest: the policy's name in events.
    #[must_use]
    pub fn short_digest(&self) -> String {
        hex::encode(&self.digest[..6])
    }

    /// The name of a rule by its number, `None` for the default.
    #[must_use]
    pub fn rule_name(&self, rule: u16) -> Option<&str> {
        self.rule_names.get(usize::from(rule)).map(String::as_str)
    }

    /// The names of all rules, in order.
    #[must_use]
    pub fn rule_names(&self) -> &[String] {
        &self.rule_names
    }

    /// Rules in the policy.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rule_names.len()
    }

    /// Distinct users (single ids and ranges) that rules name.
    #[must_use]
    pub const fn user_count(&self) -> usize {
        self.distinct_users
    }

    /// The entries of the automaton of names with `*`.
    #[must_use]
    pub fn names(&self) -> &[NameEntry] {
        &self.names
    }

    /// The entries of the map of addresses.
    #[must_use]
    pub fn addresses(&self) -> &[AddressEntry] {
        &self.addresses
    }

    /// The entries of the map of groups.
    #[must_use]
    pub fn groups(&self) -> &[GroupEntry] {
        &self.groups
    }

    /// The number of the policy among those of its maps, from 1.
    #[must_use]
    pub const fn generation(&self) -> u16 {
        self.generation
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        // The generation numbers the policies of one set of maps; it is no part of what a policy says.
        if let Some(page) = self.pages.first() {
            let mut header = *page;
            header.set_generation(0);
            header.set_trie_root(0);
            hash.update(header.as_bytes());
        }
        for page in self.pages.iter().skip(1) {
            hash.update(page.as_bytes());
        }
        let root = u64::from(self.generation) << 32;
        for entry in &self.trie {
            hash.update(entry.key.parent.wrapping_sub(root).to_le_bytes());
            hash.update(entry.key.name);
            hash.update(entry.node.node.wrapping_sub(root).to_le_bytes());
            hash.update(entry.node.class.to_le_bytes());
        }
        for (key, next) in &self.names {
            hash.update((key.0 & 0xffff_ffff).to_le_bytes());
            hash.update(next.to_le_bytes());
        }
        for entry in &self.addresses {
            hash.update(entry.prefix.to_le_bytes());
            hash.update([(entry.key.space & 1) as u8]);
            hash.update(entry.key.address.as_bytes());
            hash.update(entry.class.to_le_bytes());
        }
        for entry in &self.groups {
            hash.update(entry.prefix.to_le_bytes());
            hash.update(entry.key.gid.to_le_bytes());
            hash.update(entry.rules.as_bytes());
        }
        for name in &self.rule_names {
            hash.update(name.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

/// The flags of a policy's header.
fn header_flags(policy: &Policy) -> u64 {
    use crate::policy::{Log, Mode, Scope};
    let mut flags = 0;
    if policy.mode == Mode::Enforce {
        flags |= HeaderFlags::ENFORCE;
    }
    if policy.scope == Scope::All {
        flags |= HeaderFlags::ALL_NETNS;
    }
    let named = policy
        .rules
        .iter()
        .any(|rule| rule.cgroups.is_some() || rule.units.is_some());
    if policy.rules.iter().any(|rule| rule.groups.is_some()) {
        flags |= HeaderFlags::GROUP_RULES | HeaderFlags::GROUP_OR_ADDRESS_RULES;
    }
    if policy.rules.iter().any(|rule| rule.addresses.is_some()) {
        flags |= HeaderFlags::GROUP_OR_ADDRESS_RULES;
    }
    if named {
        flags |= HeaderFlags::CGROUP_RULES;
    }
    // Walking a path also makes the record by which an event can name a cgroup that is gone by then.
    if named || policy.log != Log::None {
        flags |= HeaderFlags::CGROUP_PATHS;
    }
    let mut rules = policy.rules.iter();
    if policy.default != Verdict::Kernel
        || rules.any(|rule| rule.action != Verdict::Kernel && !rule.audit)
    {
        flags |= HeaderFlags::ACTS;
    }
    flags
}
