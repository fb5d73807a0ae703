//! The one function that decides, over the image of a compiled policy.
//!
//! Every loop has a constant bound and every table access may fail: a missing page (no image from the
//! compiler lacks one) ends the decision without a verdict, and the caller falls back to the kernel's
//! own rule. That never grants anything.

use crate::image::{
    Header, HeaderFlags, Image, MAX_CLASS, NO_RULE, PAGE_WORDS, PORTS_PER_PAGE, Page, RuleWord,
};
use crate::vector::{Vector, vector};
use crate::{Errno, GroupRules, Reason, Request, UserWord, Verdict, WORDS_PER_MASK};

/// First page of TCP's port table, fixed so that [`is_protected`] needs no header.
pub const PORT_TABLE_START: u32 = 1;

/// In place of a cgroup's class: the path could not be read.
///
/// A number and not an `Option`: the compiler may read the payload of a `None` before the tag, which the
/// verifier takes for the use of a register that was never set.
pub const UNRESOLVED_CLASS: u32 = u32::MAX;

/// A verdict and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// Number of the deciding rule in file order, or [`NO_RULE`] for the default.
    pub rule: u16,
    /// Whether this decision makes an event.
    pub report: bool,
    /// Whether the rule is in audit mode: reported, not enforced.
    pub audit: bool,
    /// The errno of a denial.
    pub errno: Errno,
    /// Why the default decided although a rule might have matched.
    pub reason: Reason,
}

impl Decision {
    /// What the rule or the default says.
    #[inline(always)]
    #[must_use]
    pub const fn word(&self) -> RuleWord {
        RuleWord::new(self.verdict, self.report, self.audit).with_errno(self.errno)
    }
}

/// The parts of a bind that are looked up outside the image, each only where the policy needs it.
pub trait Lookup {
    /// The class of the caller's cgroup (see [`crate::TrieNode`]), or [`UNRESOLVED_CLASS`].
    fn cgroup_class(&self) -> u32;

    /// The class of the address (see [`crate::AddressKey`]), and that of the other address which the bind
    /// takes: `0.0.0.0` for a `::` that is not `IPV6_V6ONLY`, else the same class again.
    fn address_classes(&self) -> (u32, u32);

    /// Whether the caller is in a user namespace whose owners the policy's `deny` rules may name.
    fn has_owners(&self) -> bool;

    /// The rules that the caller's groups leave, and those that its owners add. `None` where a table is missing.
    fn group_rules(&self) -> Option<&GroupRules>;
}

/// Whether `port` is in the policy's `protect`; where it is not, nothing is decided.
///
/// Every protocol's table marks the same ports as protected, so TCP's is enough.
#[inline(always)]
#[must_use]
pub fn is_protected<I: Image + ?Sized>(image: &I, port: u16) -> bool {
    match image.page(PORT_TABLE_START + port as u32 / PORTS_PER_PAGE as u32) {
        Some(page) => page.port_class(port) != 0,
        None => false,
    }
}

/// Decides a bind of a protected port: the first rule that matches, else the default.
///
/// Where a part of the caller cannot be read, only rules that match whatever it is and enforced `deny` rules
/// that could match are tried: if a `deny` rule is the first of them it decides, else the default does,
/// with the [`Reason`]. So no caller escapes a denial or gains a grant by it.
///
/// `None` means that the image lacks a page, which is a fault of its writer.
#[inline(always)]
#[must_use]
pub fn decide_bind<I: Image + ?Sized>(
    image: &I,
    header: &Header<'_>,
    request: &Request,
    lookup: &impl Lookup,
) -> Option<Decision> {
    // What cannot be read is handled without branches: each would be walked once more by the verifier.
    let found = if header.has(HeaderFlags::CGROUP_RULES) {
        lookup.cgroup_class()
    } else {
        // No rule names a cgroup then, and every class has all rules.
        header.unresolved_class() as u32
    };
    let unresolved = ((u64::from(I::opaque(found)) + 1) >> 32) as u32;
    let instead = unresolved.wrapping_neg();
    let class = (found & !instead | header.unresolved_class() as u32 & instead) & MAX_CLASS;
    let mut reason = header.unresolved_cgroup() & unresolved << 1;
    let cgroups = vector(image, header.cgroup_vectors(), class)?;
    let first = if header.has(HeaderFlags::GROUP_OR_ADDRESS_RULES) || lookup.has_owners() {
        let (address, other) = lookup.address_classes();
        let groups = lookup.group_rules()?;
        // Of two reasons, missing memory.
        let no_memory = groups.reason as u32;
        reason = no_memory | reason & !(no_memory << 1);
        let narrower = GroupsAndAddresses {
            groups,
            address: vector(image, header.address_vectors(), address)?,
            other: vector(image, header.address_vectors(), other)?,
        };
        first_match(image, header, request, cgroups, &narrower)
    } else {
        // Policies that name neither do not pay for them.
        first_match(image, header, request, cgroups, &AllRules)
    }?;
    Some(first.with_reason::<I>(Outcome::by_default(header), reason))
}

/// The rules that the fields other than port, protocol, user and cgroup do not rule out.
trait Narrower {
    fn summary(&self) -> u64;
    /// Word `at`; `denies` has that word of the `deny` rules.
    fn mask(&self, at: u32, denies: u64) -> u64;
    /// The summary of the `deny` rules whose users an owner of the caller's user namespaces is one of.
    fn owned_summary(&self) -> u64;
    /// Their word `at`.
    fn owned(&self, at: u32) -> u64;
}

struct AllRules;

impl Narrower for AllRules {
    #[inline(always)]
    fn summary(&self) -> u64 {
        u64::MAX
    }

    #[inline(always)]
    fn mask(&self, _: u32, _: u64) -> u64 {
        u64::MAX
    }

    #[inline(always)]
    fn owned_summary(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn owned(&self, _: u32) -> u64 {
        0
    }
}

struct GroupsAndAddresses<'a> {
    groups: &'a GroupRules,
    address: Vector<'a>,
    other: Vector<'a>,
}

impl Narrower for GroupsAndAddresses<'_> {
    #[inline(always)]
    fn summary(&self) -> u64 {
        self.groups.rules[0] & (self.address.summary() | self.other.summary())
    }

    #[inline(always)]
    fn mask(&self, at: u32, denies: u64) -> u64 {
        let addresses = both_or_deny(self.address.mask(at), self.other.mask(at), denies);
        self.groups.rules[word_index(at)] & addresses
    }

    #[inline(always)]
    fn owned_summary(&self) -> u64 {
        self.groups.owned[0]
    }

    #[inline(always)]
    fn owned(&self, at: u32) -> u64 {
        self.groups.owned[word_index(at)]
    }
}

/// Index of word `at` of a mask in its vector.
#[inline(always)]
const fn word_index(at: u32) -> usize {
    1 + (at & (WORDS_PER_MASK as u32 - 1)) as usize
}

/// The rules that hold for a caller with two uids or a bind of two addresses: an `allow` or `kernel` rule
/// needs both in its set, a `deny` rule takes either.
#[inline(always)]
const fn both_or_deny(one: u64, other: u64, denies: u64) -> u64 {
    (one & other) | ((one ^ other) & denies)
}

#[inline(always)]
fn first_match<I: Image + ?Sized>(
    image: &I,
    header: &Header<'_>,
    request: &Request,
    cgroups: Vector<'_>,
    narrower: &impl Narrower,
) -> Option<Outcome> {
    let ports = port_vector(image, header, request)?;
    let real = user_vector(image, header, request.uid)?;
    let effective = if request.uid == request.euid {
        // A copy would be linked to the original, and the verifier would walk all that follows once more for it.
        real.unlinked::<I>()
    } else {
        user_vector(image, header, request.euid)?
    };
    let denies = deny_vector(image, header)?;

    // Words in which some field has no rule left are skipped.
    let mut summary = ports.summary()
        & (real.summary() | effective.summary() | narrower.owned_summary())
        & cgroups.summary()
        & narrower.summary();
    for _ in 0..WORDS_PER_MASK {
        if summary == 0 {
            break;
        }
        let at = lowest_bit::<I>(summary);
        summary &= summary - 1;
        let denies = denies.mask(at);
        // A setuid binary neither inherits a grant nor slips past a denial, nor does a subordinate uid.
        let users = both_or_deny(real.mask(at), effective.mask(at), denies) | narrower.owned(at);
        let hits = ports.mask(at) & users & cgroups.mask(at) & narrower.mask(at, denies);
        if hits != 0 {
            let rule = at * 64 + lowest_bit::<I>(hits);
            let word = image.page(header.rule_page() as u32)?.rule(rule);
            return Some(Outcome::new(word, rule));
        }
    }
    Some(Outcome::by_default(header))
}

/// Number of the lowest bit that is set; `bits` is not zero.
#[inline(always)]
fn lowest_bit<I: Image + ?Sized>(bits: u64) -> u32 {
    I::opaque(bits.trailing_zeros()) & 63
}

/// The rule that matched, and its word: a number, so that no branch depends on it until all is decided, and the
/// verifier walks one path.
#[derive(Clone, Copy)]
struct Outcome(u32);

impl Outcome {
    /// Where the rule's number begins.
    const RULE: u32 = 16;

    /// The outcome where no rule matches.
    #[inline(always)]
    const fn by_default(header: &Header<'_>) -> Self {
        Self::new(RuleWord(header.default_word() as u8), NO_RULE as u32)
    }

    #[inline(always)]
    const fn new(word: RuleWord, rule: u32) -> Self {
        Self(word.0 as u32 | rule << Self::RULE)
    }

    /// 1 where a rule, and not the default, denies and is enforced, else 0.
    #[inline(always)]
    const fn is_denied_by_rule(self) -> u32 {
        let no_rule = ((self.0 >> Self::RULE) + 1) >> 16;
        RuleWord(self.0 as u8).denies() & !no_rule
    }

    /// The decision. With a [`Reason`], given as its number, only an enforced `deny` rule stands against the default.
    #[inline(always)]
    fn with_reason<I: Image + ?Sized>(self, default: Self, reason: u32) -> Decision {
        let without_reason = reason.wrapping_sub(1) >> 31;
        let stands = I::opaque((without_reason | self.is_denied_by_rule()).wrapping_neg());
        let outcome = self.0 & stands | default.0 & !stands;
        let word = RuleWord(outcome as u8);
        Decision {
            verdict: word.verdict(),
            rule: (outcome >> Self::RULE) as u16,
            report: word.report(),
            audit: word.audit(),
            errno: word.errno(),
            reason: Reason::from_bits((reason & !stands) as u8),
        }
    }
}

/// The `deny` rules.
#[inline(always)]
#[must_use]
pub fn deny_vector<'a, I: Image + ?Sized>(image: &'a I, header: &Header<'_>) -> Option<Vector<'a>> {
    vector(image, header.user_vectors(), header.deny_vector() as u32)
}

#[inline(always)]
fn port_vector<'a, I: Image + ?Sized>(
    image: &'a I,
    header: &Header<'_>,
    request: &Request,
) -> Option<Vector<'a>> {
    let table = header.port_table(request.protocol) as u32;
    let class = image
        .page(table + request.port as u32 / PORTS_PER_PAGE as u32)?
        .port_class(request.port);
    vector(image, header.port_vectors(), class)
}

/// The rules that a uid is one of the users of.
#[inline(always)]
#[must_use]
pub fn user_vector<'a, I: Image + ?Sized>(
    image: &'a I,
    header: &Header<'_>,
    uid: u32,
) -> Option<Vector<'a>> {
    let first = header.user_pages() as u32;
    let at = if header.user_page_count() == 1 {
        0
    } else {
        last_not_above::<I>(image.page(first - 1)?, uid)
    };
    let page = image.page(first + at)?;
    let class = UserWord(page.word(last_not_above::<I>(page, uid) as usize)).class();
    vector(image, header.user_vectors(), class)
}

/// Index of the last [`UserWord`] of a page that does not start above `uid`. Word 0 is never above, and
/// the unused words at the end of a page always are.
///
/// Always nine steps, each of which moves the sign of a comparison to the bit that it decides: without a
/// branch, so that the verifier walks one path and not 2^9.
#[inline(always)]
fn last_not_above<I: Image + ?Sized>(page: &Page, uid: u32) -> u32 {
    let last = UserWord::last_of(uid).0;
    let mut base = 0u32;
    let mut bit = PAGE_WORDS.trailing_zeros();
    while bit > 0 {
        bit -= 1;
        let half = 1 << bit;
        // The top bit is set where the word is not above: the top bits of both are clear.
        let not_above = !last.wrapping_sub(page.word(I::opaque(base + half) as usize));
        base += (not_above >> (63 - bit)) as u32 & half;
    }
    I::opaque(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_finds_interval_of_uid() {
        for len in [1, 2, 3, 5, 8, 511, 512] {
            let mut page = Page::ZERO;
            for i in 0..PAGE_WORDS {
                let word = if i < len {
                    UserWord::new(i as u32 * 10, 0)
                } else {
                    UserWord::UNUSED
                };
                page.set(i, word.0).expect("within the page");
            }
            for uid in 0..len as u32 * 10 + 5 {
                let want = (uid / 10).min(len as u32 - 1);
                assert_eq!(
                    last_not_above::<[Page]>(&page, uid),
                    want,
                    "len {len}, uid {uid}"
                );
            }
            assert_eq!(
                last_not_above::<[Page]>(&page, u32::MAX - 1),
                len as u32 - 1
            );
        }
    }
}
