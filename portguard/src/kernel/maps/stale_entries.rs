//! Removes the entries of policies that are no longer in force.

use crate::kernel::error::KernelError;
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::wire::Wire;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, MapError};
use portguard_common::{
    AddressKey, FixedGroups, GroupKey, GroupRules, NameKey, TrieKey, TrieNode, VectorWords,
};

/// All keys of a map, before any is removed.
fn keys<K>(keys: impl Iterator<Item = Result<K, MapError>>) -> Vec<K> {
    keys.map_while(Result::ok).collect()
}

/// Removes every entry whose policy is not that of the generation `keep`. One that cannot be removed only takes
/// room: no program looks its number up.
pub(in crate::kernel) fn remove_stale_entries(
    maps: &mut Maps,
    keep: Option<u16>,
) -> Result<(), KernelError> {
    let keep = keep.map(u64::from);
    let other = |of: u64| Some(of) != keep;
    let mut trie: HashMap<_, Wire<TrieKey>, Wire<TrieNode>> = maps.table("TRIE")?;
    for key in keys(trie.keys()) {
        if other(key.0.parent >> 32) {
            let _ = trie.remove(&key);
        }
    }
    let mut names: HashMap<_, Wire<NameKey>, u32> = maps.table("NAMES")?;
    for key in keys(names.keys()) {
        if other(key.0.0 >> 32) {
            let _ = names.remove(&key);
        }
    }
    let mut addresses: LpmTrie<_, Wire<AddressKey>, u32> = maps.table("ADDRESSES")?;
    for key in keys(addresses.keys()) {
        if other(u64::from(key.data().0.space >> 1)) {
            let _ = addresses.remove(&key);
        }
    }
    let mut groups: LpmTrie<_, Wire<GroupKey>, Wire<VectorWords>> = maps.table("GROUPS")?;
    for key in keys(groups.keys()) {
        if other(u64::from(key.data().0.space)) {
            let _ = groups.remove(&key);
        }
    }
    let mut groups_of: HashMap<_, u64, Wire<GroupRules>> = maps.table("GROUPS_OF")?;
    for key in keys(groups_of.keys()) {
        if FixedGroups::from_key(key).is_some_and(|fixed| other(fixed.generation())) {
            let _ = groups_of.remove(&key);
        }
    }
    Ok(())
}
