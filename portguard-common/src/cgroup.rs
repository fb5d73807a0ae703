//! The trie of cgroup path components, by which the kernel finds the class of a cgroup.
//!
//! A policy's cgroup paths are one trie. A node's class says which rules hold at that cgroup and all
//! below it; where the trie has no child for a name, the class of the deepest node that was reached
//! stands. Node numbers are never used again by a later policy, so one map serves old and new at once.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Levels below the root that a rule's cgroup path may have.
pub const MAX_CGROUP_DEPTH: usize = 32;

/// Bytes of a name as the trie stores it, its closing NUL included.
pub const NAME_BYTES: usize = 256;

/// The longest component a rule may name, in bytes: `NAME_MAX` of `include/uapi/linux/limits.h`.
pub const MAX_CGROUP_NAME: usize = NAME_BYTES - 1;

/// Key of the trie map: a child of `parent` by its name.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrieKey {
    /// Number of the parent node.
    pub parent: u64,
    /// Name of the child, NUL-padded.
    pub name: [u8; NAME_BYTES],
}

/// Value of the trie map: the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrieNode {
    /// Number of this node.
    pub node: u64,
    /// Class of this cgroup and all below it that have no node of their own.
    pub class: u64,
}

impl TrieKey {
    /// The key of `name` below `parent`, or `None` where the name is empty or longer than [`MAX_CGROUP_NAME`].
    #[must_use]
    pub fn new(parent: u64, name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > MAX_CGROUP_NAME {
            return None;
        }
        let mut padded = [0; NAME_BYTES];
        padded.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self {
            parent,
            name: padded,
        })
    }
}
