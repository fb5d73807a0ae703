//! Map keys and values as bytes.

use portguard_common::{
    AddressKey, AggregateKey, AggregateWords, GroupKey, GroupRules, NameKey, Page, TrieKey,
    TrieNode, VectorWords,
};

/// A value whose bytes are copied to and from the kernel as they are.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::kernel) struct Wire<T>(pub(in crate::kernel) T);

// SAFETY: words without padding, for which every bit pattern is valid.
unsafe impl aya::Pod for Wire<Page> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<TrieKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<TrieNode> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<NameKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<AddressKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<GroupKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<VectorWords> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<GroupRules> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<AggregateKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<AggregateWords> {}
