//! The rules that the groups of callers leave and that the owners of their user namespaces add, and the map that holds
//! them.
//!
//! The map has an entry for each thread that is deciding. Two more of each policy stand beside them, for callers whose
//! groups and owners do not count: then a decision reads every caller's rules from one map, and the verifier walks what follows
//! once.

use crate::{Reason, VECTOR_WORDS, VectorWords, vector::Vector};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The rules that the groups of a caller leave, and those that the owners of its user namespaces add.
///
/// Who owns a user namespace has all that its users have, so a `deny` rule takes the owner of the caller's user
/// namespace, of that one's parent and so on, as if they made the bind too. No other rule does.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GroupRules {
    /// The rules that name no group, those that name one of the caller's, and the `deny` rules that name an owner's.
    pub rules: VectorWords,
    /// The `deny` rules whose users an owner is one of. Its summary may have bits of words that are zero.
    pub owned: VectorWords,
    /// A [`Reason`] as its number: [`Reason::None`], or [`Reason::NoMemory`] where `rules` are those that name no group
    /// and every enforced `deny` rule, and `owned` these. In memory, so that the verifier does not know it.
    pub reason: u64,
}

impl GroupRules {
    /// Of a caller in the initial user namespace, whose groups leave these rules.
    #[must_use]
    pub const fn new(rules: VectorWords) -> Self {
        Self {
            rules,
            owned: [0; VECTOR_WORDS],
            reason: Reason::None as u64,
        }
    }

    /// Of a caller whose groups and owners cannot be collected.
    #[must_use]
    pub const fn without_memory(rules: VectorWords, owned: VectorWords) -> Self {
        Self {
            rules,
            owned,
            reason: Reason::NoMemory as u64,
        }
    }

    /// Adds the `deny` rules among those that name a gid: of an owner, and the real and the effective one of a caller for
    /// which these differ.
    #[inline(always)]
    pub fn add_denies_of_gid(&mut self, denies: Vector<'_>, named: &VectorWords) {
        for (i, word) in self.rules.iter_mut().enumerate() {
            *word |= named[i] & denies.word(i);
        }
    }

    /// Adds the rules that name both the real and the effective gid, where these differ.
    #[inline(always)]
    pub fn add_rules_of_both_gids(&mut self, real: &VectorWords, effective: &VectorWords) {
        for (i, word) in self.rules.iter_mut().enumerate() {
            *word |= real[i] & effective[i];
        }
    }

    /// Adds the `deny` rules that an owner's uid is one of; `user` are all rules that it is one of.
    #[inline(always)]
    pub fn add_owner_uid(&mut self, denies: Vector<'_>, user: Vector<'_>) {
        for (i, word) in self.owned.iter_mut().enumerate() {
            *word |= user.word(i) & denies.word(i);
        }
    }
}

/// An entry that is no thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedGroups(u64);

impl FixedGroups {
    /// Clear in the key of a thread: its process's id, at most `PID_MAX_LIMIT` (`include/linux/threads.h`, 2^22), is
    /// in the upper half.
    const NO_THREAD: u64 = 1 << 63;

    /// The rules that name no group.
    #[inline(always)]
    #[must_use]
    pub const fn groupless(generation: u64) -> Self {
        Self(Self::NO_THREAD | generation << 2)
    }

    /// Those, and every enforced `deny` rule that names a group: for a caller whose groups cannot be collected. Where it
    /// `has_owners`, those that name users too, as an owner may be one of them.
    #[inline(always)]
    #[must_use]
    pub const fn without_memory(generation: u64, has_owners: bool) -> Self {
        Self(Self::NO_THREAD | generation << 2 | (has_owners as u64) << 1 | 1)
    }

    /// The entry with this key; `None` if the key is a thread's.
    #[must_use]
    pub const fn from_key(key: u64) -> Option<Self> {
        if key & Self::NO_THREAD == 0 {
            return None;
        }
        Some(Self(key))
    }

    /// The key.
    #[inline(always)]
    #[must_use]
    pub const fn key(self) -> u64 {
        self.0
    }

    /// The generation of its policy.
    #[must_use]
    pub const fn generation(self) -> u64 {
        (self.0 & !Self::NO_THREAD) >> 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_groups_of_a_generation_have_its_number_and_differ() {
        let groupless = FixedGroups::groupless(7);
        let [alone, owned] = [false, true].map(|owners| FixedGroups::without_memory(7, owners));
        assert!(groupless != alone && groupless != owned && alone != owned);
        for fixed in [groupless, alone, owned] {
            assert_eq!(fixed.generation(), 7);
            assert_eq!(FixedGroups::from_key(fixed.key()), Some(fixed));
        }
    }

    #[test]
    fn thread_has_no_fixed_groups() {
        let last = (1 << 22) << 32 | (1 << 22);
        assert_eq!(FixedGroups::from_key(last), None);
    }
}
