//! Puts policies in force: fills fresh tables beside those in force, then switches by one write.

use super::enforcer::Enforcer;
use super::error::{KernelError, map_error};
use super::wire::Wire;
use crate::compile::Tables;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, MapError};
use portguard_common::{AddressKey, GroupKey, NameKey, Page, TrieKey, TrieNode, VectorWords};

/// `BPF_F_INNER_MAP` of `include/uapi/linux/bpf.h` (Linux 5.10).
const BPF_F_INNER_MAP: u32 = 1 << 12;

impl Enforcer {
    /// The number that the next policy must be compiled as: from 1, and from 1 again behind 65,535.
    #[must_use]
    pub fn next_generation(&self) -> u16 {
        let now = self.installed.as_ref().map_or(0, Tables::generation);
        now.checked_add(1).unwrap_or(1)
    }

    /// Puts a policy in force. Binds see the one before until the last write, and never a part of each: all
    /// tables carry the policy's number in their keys, or hang off the one slot that is written last.
    ///
    /// The kernel waits until no program reads the old tables before that write returns
    /// (`maybe_wait_bpf_programs`, 5.10 to 7.2); then they are removed.
    ///
    /// # Errors
    /// Where a map cannot be written; then the old policy is still in force, and nothing is left of the new one.
    pub fn install(&mut self, tables: &Tables) -> Result<(), KernelError> {
        if tables.generation() == 1 {
            // The numbers begin again: classes cached under them may be 65,535 policies old.
            self.forget_cgroups()?;
        }
        if let Err(error) = self.fill(tables).and_then(|()| self.switch(tables)) {
            self.remove(tables);
            return Err(error);
        }
        if let Some(old) = self.installed.replace(tables.clone()) {
            self.remove(&old);
        }
        Ok(())
    }

    fn switch(&mut self, tables: &Tables) -> Result<(), KernelError> {
        let name = "POLICY";
        let count = u32::try_from(tables.pages().len()).unwrap_or(u32::MAX);
        let mut pages: Array<MapData, Wire<Page>> =
            Array::create(count, BPF_F_INNER_MAP).map_err(map_error(name))?;
        for (number, page) in (0..).zip(tables.pages()) {
            pages.set(number, Wire(*page), 0).map_err(map_error(name))?;
        }
        let mut slot: ArrayOfMaps<_, Array<MapData, Wire<Page>>> = self.table(name)?;
        slot.set(0, &pages, 0).map_err(map_error(name))
    }

    /// Writes the tables that carry the generation in their keys: nobody reads them before the switch.
    fn fill(&mut self, tables: &Tables) -> Result<(), KernelError> {
        let mut trie: HashMap<_, Wire<TrieKey>, Wire<TrieNode>> = self.table("TRIE")?;
        for entry in tables.trie() {
            let node = Wire(entry.node);
            trie.insert(Wire(entry.key), node, 0)
                .map_err(map_error("TRIE"))?;
        }
        let mut names: HashMap<_, Wire<NameKey>, u32> = self.table("NAMES")?;
        for (key, next) in tables.names() {
            names
                .insert(Wire(*key), *next, 0)
                .map_err(map_error("NAMES"))?;
        }
        let mut addresses: LpmTrie<_, Wire<AddressKey>, u32> = self.table("ADDRESSES")?;
        for entry in tables.addresses() {
            addresses
                .insert(&Key::new(entry.prefix, Wire(entry.key)), entry.class, 0)
                .map_err(map_error("ADDRESSES"))?;
        }
        let mut groups: LpmTrie<_, Wire<GroupKey>, Wire<VectorWords>> = self.table("GROUPS")?;
        for entry in tables.groups() {
            let key = Key::new(entry.prefix, Wire(entry.key));
            groups
                .insert(&key, Wire(entry.rules), 0)
                .map_err(map_error("GROUPS"))?;
        }
        Ok(())
    }

    /// Removes the tables of a policy that is not in force. An entry that is not there, or stays, does no harm
    /// but take room: nobody asks for its number.
    fn remove(&mut self, tables: &Tables) {
        let trie: Result<HashMap<_, Wire<TrieKey>, Wire<TrieNode>>, _> = self.table("TRIE");
        if let Ok(mut trie) = trie {
            for entry in tables.trie() {
                let _ = trie.remove(&Wire(entry.key));
            }
        }
        let names: Result<HashMap<_, Wire<NameKey>, u32>, _> = self.table("NAMES");
        if let Ok(mut names) = names {
            for (key, _) in tables.names() {
                let _ = names.remove(&Wire(*key));
            }
        }
        let addresses: Result<LpmTrie<_, Wire<AddressKey>, u32>, _> = self.table("ADDRESSES");
        if let Ok(mut addresses) = addresses {
            for entry in tables.addresses() {
                let _ = addresses.remove(&Key::new(entry.prefix, Wire(entry.key)));
            }
        }
        let groups: Result<LpmTrie<_, Wire<GroupKey>, Wire<VectorWords>>, _> = self.table("GROUPS");
        if let Ok(mut groups) = groups {
            for entry in tables.groups() {
                let _ = groups.remove(&Key::new(entry.prefix, Wire(entry.key)));
            }
        }
    }

    /// Empties the cache of cgroups.
    fn forget_cgroups(&mut self) -> Result<(), KernelError> {
        let name = "CGROUPS";
        let mut cache: HashMap<_, u64, u64> = self.table(name)?;
        let ids: Vec<u64> = cache.keys().filter_map(Result::ok).collect();
        for id in ids {
            match cache.remove(&id) {
                // Binds of this moment push others out.
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(map_error(name)(error)),
            }
        }
        Ok(())
    }
}
