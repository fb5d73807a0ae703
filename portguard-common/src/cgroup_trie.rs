//! Keys and values of the trie of cgroup path components, by which the kernel finds the class of a cgroup.
//!
//! A policy's cgroup patterns are one automaton over the components of a path, kept as a trie. A node's class
//! is the set of rules that match that cgroup and all below it; it holds for every name without an edge.
//! A name takes the edge of its own, where the node has one, else that of its *name class*: the set of the
//! policy's names with `*` that it matches, found byte by byte in a second automaton. The upper half of
//! a node's number is the policy's generation, so one map serves the old and the new policy at once.

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
    /// The node has edges: cgroups below it may have another class.
    pub const OPEN: u32 = 1;
    /// The node has edges by name class.
    pub const BY_CLASS: u32 = 2;

    /// The same node in the policy of this generation.
    #[must_use]
    pub const fn with_generation(self, generation: u16) -> Self {
        Self {
            node: in_generation(self.node, generation),
            ..self
        }
    }
}

/// Where the generation begins in the number of a node and in a [`NameKey`].
const GENERATION_SHIFT: u32 = 32;

/// `number` with its upper half replaced by a generation.
const fn in_generation(number: u64, generation: u16) -> u64 {
    ((generation as u64) << GENERATION_SHIFT) | (number & ((1 << GENERATION_SHIFT) - 1))
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

    /// The same key in the policy of this generation.
    #[must_use]
    pub const fn with_generation(self, generation: u16) -> Self {
        Self {
            parent: in_generation(self.parent, generation),
            ..self
        }
    }

    /// The generation of the key's policy.
    #[must_use]
    pub const fn generation(&self) -> u16 {
        (self.parent >> GENERATION_SHIFT) as u16
    }

    /// Offset of the class in the name of such a key; host byte order.
    pub const CLASS_AT: usize = 4;
}

/// Key of the map of the name automaton: what follows `state` at `byte`.
///
/// The edge of `b'/'`, which no name contains, leads to the name class of a name that ends here; that of
/// [`NameKey::ANY`] is for any byte without an edge of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct NameKey(pub u64);

impl NameKey {
    /// In place of all bytes without an edge of their own.
    pub const ANY: u8 = 0;
    /// In place of the end of the name.
    pub const END: u8 = b'/';

    /// The key of an edge. `state` is below 2^24; a name begins in state 0.
    #[inline(always)]
    #[must_use]
    pub const fn new(generation: u64, state: u32, byte: u8) -> Self {
        Self(generation << GENERATION_SHIFT | (state as u64) << 8 | byte as u64)
    }

    /// The same key in the policy of this generation.
    #[must_use]
    pub const fn with_generation(self, generation: u16) -> Self {
        Self(in_generation(self.0, generation))
    }

    /// The generation of the key's policy.
    #[must_use]
    pub const fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trie_key_changes_its_generation_alone() {
        let key = TrieKey::new(7 << 32 | 0xffff_fffe, b"a.slice").expect("a name");
        for generation in [0, 1, u16::MAX] {
            let other = key.with_generation(generation);
            assert_eq!(other.generation(), generation);
            assert_eq!(other.parent, u64::from(generation) << 32 | 0xffff_fffe);
            assert_eq!(other.name, key.name);
        }
        assert_eq!(key.generation(), 7);
    }

    #[test]
    fn trie_node_changes_its_generation_alone() {
        let node = TrieNode {
            node: 3,
            class: 5,
            flags: TrieNode::OPEN,
        };
        let other = node.with_generation(9);
        assert_eq!(
            other,
            TrieNode {
                node: 9 << 32 | 3,
                ..node
            }
        );
        assert_eq!(other.with_generation(0), node);
    }

    #[test]
    fn name_key_changes_its_generation_alone() {
        let key = NameKey::new(1, 0xff_ffff, b'x');
        assert_eq!(
            key.with_generation(65_535),
            NameKey::new(65_535, 0xff_ffff, b'x')
        );
        assert_eq!(key.with_generation(65_535).generation(), 65_535);
        assert_eq!(key.generation(), 1);
    }

    #[test]
    fn trie_key_holds_a_class_where_a_name_cannot_begin() {
        assert_eq!(TrieKey::of_class(1, 77).class(), Some(77));
        assert_eq!(TrieKey::new(1, b"name").and_then(|key| key.class()), None);
        assert!(TrieKey::new(1, b"").is_none());
        assert!(TrieKey::new(1, &[b'n'; NAME_BYTES]).is_none());
        assert!(TrieKey::new(1, &[b'n'; MAX_CGROUP_NAME]).is_some());
    }
}
