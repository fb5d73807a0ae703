//! The trie of cgroup path components, by which the kernel finds the class of a cgroup.
//!
//! A policy's cgroup patterns are one automaton over the components of a path, kept as a trie. A node's
//! class says which rules hold at that cgroup and all below it; where a node has no edge for a name, its
//! class stands. A name with an edge of its own takes that; any other is told by its *name class*: which
//! of the policy's names with `*` it matches, found byte by byte in a second automaton. Node numbers are
//! never used again by a later policy, so one map serves old and new at once.

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
    pub class: u32,
    /// [`TrieNode::OPEN`], [`TrieNode::BY_CLASS`].
    pub flags: u32,
}

impl TrieNode {
    /// The node has edges: what lies below may have another class.
    pub const OPEN: u32 = 1;
    /// The node has edges by name class.
    pub const BY_CLASS: u32 = 2;
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

    /// The key of the edge below `parent` for the names of a class. No name begins with NUL.
    #[must_use]
    pub fn of_class(parent: u64, class: u32) -> Self {
        let mut name = [0; NAME_BYTES];
        name[Self::CLASS_AT..Self::CLASS_AT + 4].copy_from_slice(&class.to_ne_bytes());
        Self { parent, name }
    }

    /// The class of such a key.
    #[must_use]
    pub fn class(&self) -> Option<u32> {
        let bytes = self.name.get(Self::CLASS_AT..Self::CLASS_AT + 4)?;
        let class = u32::from_ne_bytes(bytes.try_into().ok()?);
        (self.name[0] == 0).then_some(class)
    }

    /// Where in the name of such a key the class stands, host byte order.
    pub const CLASS_AT: usize = 4;
}

/// Key of the map of the name automaton: what follows `state` at `byte`.
///
/// `b'/'`, which no name has, asks for the name class of a name that ends here; [`NameKey::ANY`] for any byte
/// that has no edge of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct NameKey(pub u64);

impl NameKey {
    /// The byte that stands for all others.
    pub const ANY: u8 = 0;
    /// The byte that stands for the end of the name.
    pub const END: u8 = b'/';

    /// `state` is below 2^24; state 0 is where a name begins.
    #[inline(always)]
    #[must_use]
    pub const fn new(generation: u64, state: u32, byte: u8) -> Self {
        Self(generation << 32 | (state as u64) << 8 | byte as u64)
    }
}
