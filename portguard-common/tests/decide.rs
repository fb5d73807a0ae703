//! `decide_bind` over images made by hand: first match, and parts of the caller that cannot be read.
#![expect(
    clippy::expect_used,
    reason = "a test ends where its own image is wrong"
)]

use portguard_common::{
    Decision, GroupRules, Header, HeaderFlags, Image as _, Lookup, MAX_RULES, NO_RULE, PAGE_WORDS,
    PORT_TABLE_START, PORTS_PER_PAGE, Page, Protocol, Reason, Request, RuleWord, UNRESOLVED_CLASS,
    UserWord, VECTOR_WORDS, VectorWords, Verdict, decide_bind, deny_vector, is_protected,
};

/// The only port that the images protect.
const PORT: u16 = 80;
const PORT_PAGES: usize = 65_536 / PORTS_PER_PAGE;

/// A rule of these images: on every port, for every user, by cgroup and group alone.
#[derive(Clone, Copy)]
struct Rule {
    verdict: Verdict,
    audit: bool,
    /// Whether it names a cgroup, which is that of class 1.
    cgroup: bool,
    /// Whether it names a group.
    group: bool,
    /// Whether it names a user, who is not the caller.
    user: bool,
}

const fn rule(verdict: Verdict) -> Rule {
    Rule {
        verdict,
        audit: false,
        cgroup: false,
        group: false,
        user: false,
    }
}

impl Rule {
    const fn of_cgroup(self) -> Self {
        Self {
            cgroup: true,
            ..self
        }
    }

    const fn of_group(self) -> Self {
        Self {
            group: true,
            ..self
        }
    }

    const fn of_user(self) -> Self {
        Self { user: true, ..self }
    }

    const fn in_audit(self) -> Self {
        Self {
            audit: true,
            ..self
        }
    }

    fn denies(self) -> bool {
        self.verdict == Verdict::Deny && !self.audit
    }
}

/// The vector of the rules of which `holds` is true.
fn vector(rules: &[Rule], holds: impl Fn(Rule) -> bool) -> VectorWords {
    let mut words = [0; VECTOR_WORDS];
    for (i, _) in rules.iter().enumerate().filter(|(_, rule)| holds(**rule)) {
        words[0] |= 1 << (i / 64);
        words[1 + i / 64] |= 1 << (i % 64);
    }
    words
}

fn page(words: impl IntoIterator<Item = u64>) -> Page {
    let mut page = Page::ZERO;
    for (i, word) in words.into_iter().enumerate() {
        page.set(i, word).expect("within the page");
    }
    page
}

/// The image of a policy with these rules.
fn image(default: Verdict, rules: &[Rule]) -> Vec<Page> {
    let mut pages = vec![Page::ZERO];
    let mut push = |page: Page| {
        pages.push(page);
        pages.len() as u64 - 1
    };
    let mut header = Page::ZERO;
    for number in 0..PORT_PAGES {
        let at_port = number == usize::from(PORT) / PORTS_PER_PAGE;
        let word = usize::from(PORT) % PORTS_PER_PAGE / 4;
        push(page(
            (0..PAGE_WORDS).map(|i| u64::from(at_port && i == word)),
        ));
    }
    for protocol in Protocol::ALL {
        header.set_port_table(protocol, u64::from(PORT_TABLE_START));
    }
    let all = vector(rules, |_| true);
    push(page([UserWord::new(0, 0).0]));
    let unused = std::iter::repeat_n(UserWord::UNUSED.0, PAGE_WORDS - 1);
    header.set_user_pages(push(page(
        [UserWord::new(0, 0).0].into_iter().chain(unused),
    )));
    header.set_user_page_count(1);
    let deny = vector(rules, |rule| rule.verdict == Verdict::Deny);
    let users = vector(rules, |rule| !rule.user);
    header.set_user_vectors(push(page(users.into_iter().chain(deny))));
    header.set_deny_vector(1);
    // Class 0 is that of ports that are not protected.
    header.set_port_vectors(push(page([0; VECTOR_WORDS].into_iter().chain(all))));
    let elsewhere = vector(rules, |rule| !rule.cgroup);
    let unresolved = vector(rules, |rule| !rule.cgroup || rule.denies());
    let cgroups = elsewhere.into_iter().chain(all).chain(unresolved);
    header.set_cgroup_vectors(push(page(cgroups)));
    header.set_unresolved_class(2);
    header.set_address_vectors(push(page(all)));
    let mut bytes = [0u8; MAX_RULES];
    for (byte, rule) in bytes.iter_mut().zip(rules) {
        *byte = RuleWord::new(rule.verdict, true, rule.audit).0;
    }
    let words = bytes.as_chunks::<8>().0.iter();
    header.set_rule_page(push(page(words.map(|eight| u64::from_le_bytes(*eight)))));
    header.set_default_word(u64::from(RuleWord::new(default, true, false).0));
    header.set_flags(flags(rules));
    pages[0] = header;
    pages
}

fn flags(rules: &[Rule]) -> u64 {
    let mut flags = HeaderFlags::ENFORCE;
    if rules.iter().any(|rule| rule.cgroup) {
        flags |= HeaderFlags::CGROUP_RULES;
    }
    if rules.iter().any(|rule| rule.group) {
        flags |= HeaderFlags::GROUP_RULES | HeaderFlags::GROUP_OR_ADDRESS_RULES;
    }
    flags
}

/// A caller: the class of its cgroup, the rules that its groups leave, with the reason.
struct Caller {
    class: u32,
    groups: GroupRules,
}

impl Lookup for Caller {
    fn cgroup_class(&self) -> u32 {
        self.class
    }

    fn address_classes(&self) -> (u32, u32) {
        (0, 0)
    }

    fn has_owners(&self) -> bool {
        self.groups.owned != [0; VECTOR_WORDS]
    }

    fn group_rules(&self) -> Option<&GroupRules> {
        Some(&self.groups)
    }
}

fn decide(image: &[Page], caller: &Caller) -> Decision {
    let request = Request {
        port: PORT,
        protocol: Protocol::Tcp,
        uid: 1000,
        euid: 1000,
    };
    let header = Header(&image[0]);
    decide_bind(image, &header, &request, caller).expect("a whole image")
}

/// The rules of a caller whose groups cannot be collected.
fn without_memory(rules: &[Rule]) -> GroupRules {
    GroupRules::without_memory(
        vector(rules, |rule| !rule.group || rule.denies()),
        [0; VECTOR_WORDS],
    )
}

/// What rules decide for a caller with nothing to read in it, or with one part that cannot be read.
fn decided(default: Verdict, rules: &[Rule], unreadable: Reason) -> (Verdict, u16, Reason) {
    let decision = decide(
        &image(default, rules),
        &Caller {
            class: if unreadable == Reason::UnresolvedCgroup {
                UNRESOLVED_CLASS
            } else {
                0
            },
            groups: if unreadable == Reason::NoMemory {
                without_memory(rules)
            } else {
                GroupRules::new(vector(rules, |rule| !rule.group))
            },
        },
    );
    assert!(decision.report);
    (decision.verdict, decision.rule, decision.reason)
}

use Reason::{NoMemory, UnresolvedCgroup};
use Verdict::{Allow, Deny, Kernel};

#[test]
fn first_matching_rule_decides_and_else_the_default() {
    let rules = [rule(Deny).of_cgroup(), rule(Allow), rule(Deny)];
    assert_eq!(
        decided(Kernel, &rules, Reason::None),
        (Allow, 1, Reason::None)
    );
    let image = image(Kernel, &rules);
    let named = Caller {
        class: 1,
        groups: GroupRules::new([0; VECTOR_WORDS]),
    };
    assert_eq!(decide(&image, &named).rule, 0);
    assert_eq!(
        decided(Deny, &[rule(Allow).of_group()], Reason::None),
        (Deny, NO_RULE, Reason::None)
    );
}

#[test]
fn unresolved_cgroup_meets_deny_rules_that_could_match() {
    let rules = [rule(Allow).of_cgroup(), rule(Deny).of_cgroup()];
    for default in [Kernel, Allow, Deny] {
        assert_eq!(
            decided(default, &rules, UnresolvedCgroup),
            (Deny, 1, Reason::None)
        );
    }
}

#[test]
fn unresolved_cgroup_leaves_all_else_to_the_default_with_its_reason() {
    for default in [Kernel, Deny] {
        for rules in [
            [rule(Allow), rule(Allow).of_cgroup()],
            [rule(Kernel), rule(Allow).of_cgroup()],
            [rule(Allow).of_cgroup(), rule(Allow).of_cgroup()],
            [rule(Deny).in_audit(), rule(Allow).of_cgroup()],
        ] {
            assert_eq!(
                decided(default, &rules, UnresolvedCgroup),
                (default, NO_RULE, UnresolvedCgroup)
            );
        }
    }
}

#[test]
fn unresolved_cgroup_is_no_matter_where_no_rule_names_one() {
    assert_eq!(
        decided(Kernel, &[rule(Allow)], UnresolvedCgroup),
        (Allow, 0, Reason::None)
    );
}

#[test]
fn owner_of_a_user_namespace_meets_deny_rules_alone() {
    let rules = [
        rule(Allow).of_user(),
        rule(Deny).of_user(),
        rule(Allow),
        rule(Deny),
    ];
    let image = image(Kernel, &rules);
    let header = Header(&image[0]);
    // The owner is one of the users of every rule.
    let all = vector(&rules, |_| true);
    let page = page(all);
    let mut groups = GroupRules::new(all);
    let outside = Caller { class: 0, groups };
    assert_eq!(decide(&image, &outside).rule, 2);
    let user = portguard_common::Vector::at(&page, 0);
    let denies = deny_vector(image.as_slice(), &header).expect("a whole image");
    groups.add_owner_uid(denies, user);
    let inside = Caller { class: 0, groups };
    let decision = decide(&image, &inside);
    assert_eq!((decision.verdict, decision.rule), (Deny, 1));
}

#[test]
fn gid_of_an_owner_meets_deny_rules_alone() {
    let rules = [rule(Allow).of_group(), rule(Deny).of_group(), rule(Allow)];
    let image = image(Kernel, &rules);
    let denies = deny_vector(image.as_slice(), &Header(&image[0])).expect("a whole image");
    let mut groups = GroupRules::new(vector(&rules, |rule| !rule.group));
    groups.add_denies_of_gid(denies, &vector(&rules, |rule| rule.group));
    let decision = decide(&image, &Caller { class: 0, groups });
    assert_eq!((decision.verdict, decision.rule), (Deny, 1));
}

#[test]
fn missing_memory_meets_deny_rules_that_could_match() {
    let rules = [rule(Allow).of_group(), rule(Deny).of_group()];
    for default in [Kernel, Allow, Deny] {
        assert_eq!(decided(default, &rules, NoMemory), (Deny, 1, Reason::None));
    }
}

#[test]
fn missing_memory_leaves_all_else_to_the_default_with_its_reason() {
    for default in [Kernel, Deny] {
        for rules in [
            [rule(Allow), rule(Deny).of_group().in_audit()],
            [rule(Kernel), rule(Allow).of_group()],
            [rule(Allow).of_group(), rule(Allow).of_group()],
            [rule(Deny).in_audit(), rule(Allow).of_group()],
        ] {
            assert_eq!(
                decided(default, &rules, NoMemory),
                (default, NO_RULE, NoMemory)
            );
        }
    }
}

#[test]
fn missing_memory_is_no_matter_where_no_rule_names_a_group() {
    assert_eq!(
        decided(Kernel, &[rule(Allow)], NoMemory),
        (Allow, 0, Reason::None)
    );
}

#[test]
fn audit_deny_hides_no_enforced_deny_of_an_unreadable_caller() {
    let rules = [
        rule(Deny).in_audit().of_cgroup().of_group(),
        rule(Deny).of_cgroup().of_group(),
    ];
    for reason in [UnresolvedCgroup, NoMemory] {
        let image = image(Kernel, &rules);
        let (class, groups) = match reason {
            NoMemory => (1, without_memory(&rules)),
            _ => (UNRESOLVED_CLASS, GroupRules::new(vector(&rules, |_| true))),
        };
        let caller = Caller { class, groups };
        let decision = decide(&image, &caller);
        assert_eq!((decision.verdict, decision.rule), (Deny, 1), "{reason:?}");
    }
}

#[test]
fn missing_memory_is_the_reason_where_the_cgroup_is_unresolved_too() {
    let rules = [rule(Allow).of_group(), rule(Allow).of_cgroup()];
    let caller = Caller {
        class: UNRESOLVED_CLASS,
        groups: without_memory(&rules),
    };
    let decision = decide(&image(Deny, &rules), &caller);
    assert_eq!(
        (decision.verdict, decision.rule, decision.reason),
        (Deny, NO_RULE, NoMemory)
    );
}

#[test]
fn image_without_pages_decides_nothing() {
    let request = Request {
        port: PORT,
        protocol: Protocol::Tcp,
        uid: 0,
        euid: 0,
    };
    let caller = Caller {
        class: 0,
        groups: GroupRules::new([0; VECTOR_WORDS]),
    };
    let mut header = Page::ZERO;
    header.set_port_table(Protocol::Tcp, 7);
    let image: [Page; 1] = [Page::ZERO];
    assert!(!is_protected(&image[..], PORT));
    assert_eq!(
        decide_bind(&image[..], &Header(&header), &request, &caller),
        None
    );
}

#[test]
fn only_the_protected_port_is_protected() {
    let image = image(Kernel, &[]);
    let protected: Vec<u16> = (0..=u16::MAX)
        .filter(|port| is_protected(&image[..], *port))
        .collect();
    assert_eq!(protected, [PORT]);
    assert!(image[..].page(u32::MAX).is_none());
}
