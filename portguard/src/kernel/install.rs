//! Installs policies: fills new tables beside those in force, then switches by one write.

use crate::kernel::enforcer::Enforcer;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::maps::map_insert::insert;
use crate::kernel::maps::policy_map::KernelImage;
use crate::kernel::maps::slots::Slot;
use crate::kernel::maps::wire::Wire;
use crate::status::Description;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapError};
use portguard_common::{
    AddressKey, FixedGroups, GroupKey, GroupRules, Memo, NameKey, TrieKey, TrieNode, VECTOR_WORDS,
    VectorWords,
};
use portguard_policy::compile::Tables;

impl Enforcer {
    /// The number of the next policy that is installed: from 1, and from 1 again behind 65,535.
    #[must_use]
    pub fn next_generation(&self) -> u16 {
        let now = self.in_force.as_ref();
        let now = now.map_or(0, KernelImage::generation);
        now.checked_add(1).unwrap_or(1)
    }

    /// Puts a policy in force. Until the last write binds see the previous policy, and never a mix: all tables have
    /// the policy's number in their keys, or are in the place that the one word names that is written last. Once no
    /// program uses the old tables they are removed.
    ///
    /// # Errors
    /// Where a map cannot be written; then the old policy is still in force, and the new one is removed.
    pub fn install(
        &mut self,
        tables: &Tables,
        memo: &Memo,
        description: &Description,
    ) -> Result<(), KernelError> {
        let generation = self.next_generation();
        if generation == 1 {
            // The numbers begin again: classes cached under them may be 65,535 policies old.
            self.forget_cgroups()?;
        }
        let description = description.numbered(generation);
        let mut image = match self.fill_and_switch(tables, memo, description) {
            Ok(image) => image,
            Err(error) => {
                self.remove_stale_entries()?;
                return Err(error);
            }
        };
        if let Some(old) = self.in_force.take() {
            // Its hits no longer change. Where they cannot be carried over they restart at 0, which changes no decision.
            let carried = old.hits(&self.maps).and_then(|hits| image.carry(&hits));
            if let Err(error) = carried {
                log::warn!("cannot carry over the rules' hits, which restart at 0: {error}");
            }
            if let Err(error) = old.leave_slot(&self.maps) {
                log::warn!("the memory of the old policy is kept until the next reload: {error}");
            }
        }
        self.in_force = Some(image);
        self.remove_stale_entries()
    }

    fn fill_and_switch(
        &mut self,
        tables: &Tables,
        memo: &Memo,
        description: Description,
    ) -> Result<KernelImage, KernelError> {
        self.fill(tables, description.policy.generation)?;
        let slot = Slot::in_force(&self.maps)?.map_or(Slot::First, Slot::other);
        let image = KernelImage::create(tables, description, slot)?;
        // Before the switch: what is in force is pinned at each moment.
        image.pin(&self.maps)?;
        image.switch(&mut self.maps, memo)?;
        Ok(image)
    }

    /// Writes the tables that have the generation in their keys: no program reads them before the switch.
    fn fill(&mut self, tables: &Tables, generation: u16) -> Result<(), KernelError> {
        let mut trie: HashMap<_, Wire<TrieKey>, Wire<TrieNode>> = self.maps.table("TRIE")?;
        for entry in &tables.trie {
            let key = Wire(entry.key.with_generation(generation));
            let node = Wire(entry.node.with_generation(generation));
            insert("TRIE", || trie.insert(key, node, 0))?;
        }
        let mut names: HashMap<_, Wire<NameKey>, u32> = self.maps.table("NAMES")?;
        for (key, next) in &tables.names {
            let key = Wire(key.with_generation(generation));
            insert("NAMES", || names.insert(key, *next, 0))?;
        }
        let mut addresses: LpmTrie<_, Wire<AddressKey>, u32> = self.maps.table("ADDRESSES")?;
        for entry in &tables.addresses {
            let key = Wire(entry.key.with_generation(generation));
            let key = Key::new(entry.prefix, key);
            insert("ADDRESSES", || addresses.insert(&key, entry.class, 0))?;
        }
        let mut groups: LpmTrie<_, Wire<GroupKey>, Wire<VectorWords>> =
            self.maps.table("GROUPS")?;
        for entry in &tables.groups {
            let key = Wire(entry.key.with_generation(generation));
            let key = Key::new(entry.prefix, key);
            insert("GROUPS", || groups.insert(&key, Wire(entry.rules), 0))?;
        }
        let mut groups_of: HashMap<_, u64, Wire<GroupRules>> = self.maps.table("GROUPS_OF")?;
        let generation = u64::from(generation);
        for (fixed, rules) in [
            (
                FixedGroups::groupless(generation),
                GroupRules::new(tables.groupless),
            ),
            (
                FixedGroups::without_memory(generation, false),
                GroupRules::without_memory(tables.groups_unread, [0; VECTOR_WORDS]),
            ),
            (
                FixedGroups::without_memory(generation, true),
                GroupRules::without_memory(tables.groups_unread, tables.owners_unread),
            ),
        ] {
            insert("GROUPS_OF", || {
                groups_of.insert(fixed.key(), Wire(rules), 0)
            })?;
        }
        Ok(())
    }

    /// Empties the cache of cgroups.
    fn forget_cgroups(&mut self) -> Result<(), KernelError> {
        let name = "CGROUPS";
        let mut cache: HashMap<_, u64, u64> = self.maps.table(name)?;
        let ids: Vec<u64> = cache.keys().filter_map(Result::ok).collect();
        for id in ids {
            match cache.remove(&id) {
                // A bind may have evicted it meanwhile.
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(map_error(name)(error)),
            }
        }
        Ok(())
    }
}
