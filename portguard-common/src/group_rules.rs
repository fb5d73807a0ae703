//! The rules that the groups of callers leave, and the map that holds them.
//!
//! The map has an entry for each thread that is deciding. Two more of each policy stand beside them, for callers whose
//! groups do not count: then a decision reads every caller's rules from one map, and the verifier walks what follows
//! once.

use crate::{Reason, VectorWords};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The rules that the groups of a caller leave.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GroupRules {
    /// The rules that name no group, and those that name one of the caller's.
    pub rules: VectorWords,
    /// A [`Reason`] as its number: [`Reason::None`], or [`Reason::NoMemory`] where `rules` are those that name no group
    /// and every enforced `deny` rule. In memory, so that the verifier does not know it.
    pub reason: u64,
}

impl GroupRules {
    /// The rules that the groups of a caller leave, or those that count where they cannot be collected.
    #[must_use]
    pub const fn new(rules: VectorWords, reason: Reason) -> Self {
        Self {
            rules,
            reason: reason as u64,
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
        Self(Self::NO_THREAD | generation << 1)
    }

    /// Those, and every enforced `deny` rule: for a caller whose groups cannot be collected.
    #[inline(always)]
    #[must_use]
    pub const fn without_memory(generation: u64) -> Self {
        Self(Self::NO_THREAD | generation << 1 | 1)
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
        (self.0 & !Self::NO_THREAD) >> 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_groups_of_a_generation_have_its_number_and_differ() {
        let (groupless, without) = (FixedGroups::groupless(7), FixedGroups::without_memory(7));
        assert_ne!(groupless, without);
        for fixed in [groupless, without] {
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
