//! The memo of a policy: what [`crate::decide_bind`] says of binds of which it asks little.
//!
//! The compiler asks `decide_bind` once for every outcome that a port can have, and writes down the answers. The
//! programs look the answer up. Where it depends on more than the memo knows, they call `decide_bind`.
//!
//! A port has a class, which it shares with the ports that the same rules match. A class has an [`Entry`] for each
//! protocol, which is the answer itself or says where the answers are: ordered by uid, or by the class of the
//! caller's cgroup or of the address.

use crate::image::{Image, NO_RULE, RuleWord};
use crate::{Errno, Protocol, Reason, Verdict};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Classes of ports.
pub const MEMO_CLASSES: usize = 8192;
/// Answers that depend on the caller or the address.
pub const MEMO_ANSWERS: usize = 65_536;
/// Words for the decisions by the default, then by each rule, which lie beside a memo: see [`crate::hits_slot`].
pub const MEMO_HITS: usize = 8192;

const PROTOCOLS: usize = Protocol::ALL.len();
const ENTRY_MASK: u32 = (MEMO_CLASSES * PROTOCOLS) as u32 - 1;
const ANSWER_MASK: u32 = MEMO_ANSWERS as u32 - 1;

/// The memo, as the value of its map.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Memo {
    /// Number of the policy, as in [`crate::Header`].
    pub generation: u64,
    /// [`crate::HeaderFlags`] of the policy.
    pub flags: u64,
    /// The [`PortClass`] of each port.
    pub ports: [u16; 65_536],
    /// The [`Entry`] of each class and protocol.
    pub entries: [u32; MEMO_CLASSES * PROTOCOLS],
    /// The uid from which on an answer holds, where entries are [`Kind::ByUser`].
    pub starts: [u32; MEMO_ANSWERS],
    /// Answers.
    pub answers: [u32; MEMO_ANSWERS],
}

/// The class of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortClass(pub u16);

impl PortClass {
    /// Not protected: nothing is decided.
    pub const UNPROTECTED: Self = Self(0);
    /// Of ports for which the memo has no room.
    pub const GENERAL: Self = Self(MEMO_CLASSES as u16 - 1);

    /// Set where some bind of the port may be denied or granted.
    const ACTS: u16 = 1 << 15;

    /// The class with this number; `acts` where some bind may be denied or granted.
    #[must_use]
    pub const fn new(number: u16, acts: bool) -> Self {
        Self(number | if acts { Self::ACTS } else { 0 })
    }

    /// Whether the port is protected.
    #[inline(always)]
    #[must_use]
    pub const fn is_protected(self) -> bool {
        self.0 != Self::UNPROTECTED.0
    }

    /// Whether some bind of the port may be denied or granted.
    #[inline(always)]
    #[must_use]
    pub const fn acts(self) -> bool {
        self.0 & Self::ACTS != 0
    }
}

/// On what an answer depends, besides port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On more than the memo knows: `decide_bind` is called.
    General = 0,
    /// On nothing.
    Alone = 1,
    /// On the uid of a caller whose real and effective uid are one.
    ByUser = 2,
    /// On the class of the caller's cgroup.
    ByCgroup = 3,
    /// On the class of the address, where the bind takes one address.
    ByAddress = 4,
}

/// What a class of ports says of binds by a protocol: bits 29 to 31 the [`Kind`], bit 28 whether an answer acts, and
/// below them the [`Answer`] if it is [`Kind::Alone`], else where the answers begin, from bit 16 how many steps a search
/// takes, and bit 27 whether the owners of the caller's user namespaces count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u32);

impl Entry {
    const KIND: u32 = 29;
    const ACTS: u32 = 1 << 28;
    const OWNERS: u32 = 1 << 27;
    const STEPS: u32 = 16;

    /// The entry of a port for which `decide_bind` is called.
    pub const GENERAL: Self = Self(Self::ACTS);

    /// This answer, for every caller.
    #[must_use]
    pub const fn alone(answer: Answer) -> Self {
        let acts = if answer.acts() { Self::ACTS } else { 0 };
        Self((Kind::Alone as u32) << Self::KIND | acts | answer.0)
    }

    /// The answers from `first` on, of which a search takes `steps` steps.
    #[must_use]
    pub const fn of_answers(kind: Kind, acts: bool, first: u16, steps: u32) -> Self {
        let acts = if acts { Self::ACTS } else { 0 };
        Self((kind as u32) << Self::KIND | acts | steps << Self::STEPS | first as u32)
    }

    /// The same entry, for callers in the initial user namespace only.
    #[must_use]
    pub const fn asking_owners(self) -> Self {
        Self(self.0 | Self::OWNERS)
    }

    /// Of an entry that is [`Kind::ByUser`]: whether the owners of the caller's user namespaces count too, of which
    /// the memo knows nothing.
    #[inline(always)]
    #[must_use]
    pub const fn asks_owners(self) -> bool {
        self.0 & Self::OWNERS != 0
    }

    /// On what the answer depends.
    #[inline(always)]
    #[must_use]
    pub const fn is(self, kind: Kind) -> bool {
        self.0 >> Self::KIND == kind as u32
    }

    /// Whether some answer is enforced and denies or allows.
    #[inline(always)]
    #[must_use]
    pub const fn acts(self) -> bool {
        self.0 & Self::ACTS != 0
    }

    /// The answer of an entry that is [`Kind::Alone`].
    #[inline(always)]
    #[must_use]
    pub const fn answer(self) -> Answer {
        Answer(self.0 & (Self::ACTS - 1))
    }

    const fn first(self) -> u64 {
        self.0 as u64 & 0xffff
    }
}

/// A decision: from bit 0 the [`RuleWord`], bit 8 whether it is enforced, bit 9 whether only its rule is in audit mode,
/// bits 10 and 11 the [`Reason`], and from bit 12 the slot of its hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(pub u32);

impl Answer {
    const ENFORCED: u32 = 1 << 8;
    const AUDIT_RULE: u32 = 1 << 9;
    const REASON: u32 = 10;
    const SLOT: u32 = 12;

    /// The decision by `rule`, or by the default, in a policy that is enforced or not.
    #[inline(always)]
    #[must_use]
    pub const fn new(word: RuleWord, rule: u16, policy_enforced: bool) -> Self {
        let mode = match (policy_enforced, word.audit()) {
            (false, _) => 0,
            (true, false) => Self::ENFORCED,
            (true, true) => Self::AUDIT_RULE,
        };
        Self(word.0 as u32 | mode | crate::hits_slot(rule) << Self::SLOT)
    }

    /// The same with the reason why no rule decided.
    #[inline(always)]
    #[must_use]
    pub const fn because(self, reason: Reason) -> Self {
        Self(self.0 | (reason as u32) << Self::REASON)
    }

    /// Why no rule decided.
    #[inline(always)]
    #[must_use]
    pub const fn reason(self) -> Reason {
        Reason::from_bits((self.0 >> Self::REASON) as u8)
    }

    /// Whether the rule is in audit mode, in a policy that is not.
    #[inline(always)]
    #[must_use]
    pub const fn is_audit_rule(self) -> bool {
        self.0 & Self::AUDIT_RULE != 0
    }

    /// Whether it is enforced and denies.
    #[inline(always)]
    #[must_use]
    pub const fn refuses(self) -> bool {
        let deny = Self::ENFORCED | Verdict::Deny as u32;
        self.0 & deny == deny
    }

    /// The errno with which the bind is refused.
    #[inline(always)]
    #[must_use]
    pub const fn refusal(self) -> Option<Errno> {
        if self.refuses() {
            Some(self.word().errno())
        } else {
            None
        }
    }

    /// Whether it is enforced and allows.
    #[inline(always)]
    #[must_use]
    pub const fn allows(self) -> bool {
        self.0 & (Self::ENFORCED | 3) == Self::ENFORCED | Verdict::Allow as u32
    }

    /// The word of the rule or of the default.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> RuleWord {
        RuleWord(self.0 as u8)
    }

    /// Whether it is enforced.
    #[inline(always)]
    #[must_use]
    pub const fn enforced(self) -> bool {
        self.0 & Self::ENFORCED != 0
    }

    /// Whether it is enforced and denies or allows.
    #[inline(always)]
    #[must_use]
    pub const fn acts(self) -> bool {
        self.refuses() || self.allows()
    }

    /// The index of its hits.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 >> Self::SLOT & (MEMO_HITS as u32 - 1)
    }

    /// The deciding rule, or [`NO_RULE`].
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> u16 {
        // Slot 0 is that of the default.
        (self.slot() as u16).wrapping_add(NO_RULE)
    }
}

impl Memo {
    /// A memo in which no port is protected.
    pub const EMPTY: Self = Self {
        generation: 0,
        flags: 0,
        ports: [0; 65_536],
        entries: [0; MEMO_CLASSES * PROTOCOLS],
        starts: [0; MEMO_ANSWERS],
        answers: [0; MEMO_ANSWERS],
    };

    /// The class of a port.
    #[inline(always)]
    #[must_use]
    pub fn class<I: Image + ?Sized>(&self, port: u16) -> PortClass {
        let at = I::bounded::<0xffff>(u64::from(port));
        PortClass(self.ports[at as usize])
    }

    /// What a class says of a protocol.
    #[inline(always)]
    #[must_use]
    pub fn entry<I: Image + ?Sized>(&self, class: PortClass, protocol: Protocol) -> Entry {
        let at = u64::from(class.0) * PROTOCOLS as u64 + protocol as u64;
        Entry(self.entries[I::bounded::<ENTRY_MASK>(at) as usize])
    }

    /// The answer of an entry that is [`Kind::ByUser`], for a uid.
    ///
    /// Each step moves the sign of a comparison to the half that it decides, without a branch: the verifier walks one
    /// path.
    #[inline(always)]
    #[must_use]
    pub fn answer_for_user<I: Image + ?Sized>(&self, entry: Entry, uid: u64) -> Answer {
        let above = uid + 1;
        let mut at = entry.first();
        // The bound tells the verifier that the loop ends.
        let mut half = I::bounded::<ANSWER_MASK>((1 << (entry.0 >> Entry::STEPS & 31)) >> 1);
        while half != 0 {
            let start = self.starts[I::bounded::<ANSWER_MASK>(at + half) as usize];
            at += half & (u64::from(start).wrapping_sub(above) >> 32);
            half >>= 1;
        }
        self.answer::<I>(at)
    }

    /// The answer of an entry that is [`Kind::ByCgroup`] or [`Kind::ByAddress`], for a class.
    #[inline(always)]
    #[must_use]
    pub fn answer_for_class<I: Image + ?Sized>(&self, entry: Entry, class: u32) -> Answer {
        self.answer::<I>(entry.first() + u64::from(class))
    }

    #[inline(always)]
    fn answer<I: Image + ?Sized>(&self, at: u64) -> Answer {
        Answer(self.answers[I::bounded::<ANSWER_MASK>(at) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Page;
    use zerocopy::FromZeros as _;

    #[test]
    fn answer_keeps_rule_and_word() {
        let word = RuleWord::new(Verdict::Allow, true, false);
        for rule in [0, 1, 4095, NO_RULE] {
            let answer = Answer::new(word, rule, true);
            let entry = Entry::alone(answer);
            assert_eq!(entry.answer(), answer);
            assert!(entry.is(Kind::Alone) && entry.acts());
            assert_eq!((answer.word(), answer.rule()), (word, rule));
            assert!(answer.enforced() && answer.acts());
        }
        let deny = |audit, enforced| {
            let answer = Answer::new(RuleWord::new(Verdict::Deny, true, audit), 0, enforced);
            (answer.refuses(), answer.acts(), answer.is_audit_rule())
        };
        assert_eq!(deny(false, true), (true, true, false));
        assert_eq!(deny(true, true), (false, false, true));
        assert_eq!(deny(false, false), (false, false, false));
        assert_eq!(deny(true, false), (false, false, false));
        let answer = Answer::new(word, 7, true).because(Reason::UnresolvedCgroup);
        assert_eq!(
            (answer.rule(), answer.reason(), answer.allows()),
            (7, Reason::UnresolvedCgroup, true)
        );
    }

    #[test]
    fn answer_for_user_is_that_of_the_last_start_not_above() {
        let mut memo = Memo::new_box_zeroed().expect("memory");
        for (steps, first) in [(0, 7), (1, 40), (3, 100), (13, 4096)] {
            let count = 1u32 << steps;
            for at in 0..count {
                // The second half reaches above the middle of all uids.
                let start = at * (u32::MAX / count);
                memo.starts[(first + at) as usize] = start;
                memo.answers[(first + at) as usize] = at;
            }
            let entry = Entry::of_answers(Kind::ByUser, false, first as u16, steps);
            for at in 0..count {
                let start = memo.starts[(first + at) as usize];
                let answer = |uid: u32| memo.answer_for_user::<[Page]>(entry, uid.into()).0;
                assert_eq!(answer(start), at);
                if at > 0 {
                    assert_eq!(answer(start - 1), at - 1);
                }
            }
            let last = memo.answer_for_user::<[Page]>(entry, u64::from(u32::MAX) - 1);
            assert_eq!(last.0, count - 1);
        }
    }

    #[test]
    fn kind_survives_its_entry() {
        for kind in [Kind::ByUser, Kind::ByCgroup, Kind::ByAddress] {
            let entry = Entry::of_answers(kind, true, u16::MAX, 16);
            assert!(entry.is(kind) && entry.acts() && !entry.is(Kind::General));
            let asking = entry.asking_owners();
            assert!(asking.asks_owners() && !entry.asks_owners());
            assert!(asking.is(kind) && asking.acts() && asking.first() == 0xffff);
        }
        assert!(Entry::GENERAL.is(Kind::General) && Entry::GENERAL.acts());
    }
}
