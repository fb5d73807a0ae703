//! A compiled policy: what the maps of the programs are filled with.

use portguard_common::{AddressKey, GroupKey, NameKey, Page, TrieKey, TrieNode, VectorWords};
use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

/// A compiled policy: what the maps of the programs are filled with, all keys under generation 0.
#[derive(Clone)]
pub struct Tables {
    /// The image, page by page.
    pub pages: Vec<Page>,
    /// The cgroup trie, ordered by parent node; of each node the edges by name come first, in order.
    pub trie: Vec<TrieEntry>,
    /// The automaton of the names with `*`, in order of its keys.
    pub names: Vec<NameEntry>,
    /// The networks that rules name.
    pub addresses: Vec<AddressEntry>,
    /// The blocks of gids that rules name.
    pub groups: Vec<GroupEntry>,
    /// The rules of a caller whose groups no rule names.
    pub groupless: VectorWords,
    /// Those and all enforced `deny` rules: for a caller whose groups cannot be collected.
    pub groups_unread: VectorWords,
    /// The enforced `deny` rules that name users: for a caller whose owners cannot be collected.
    pub owners_unread: VectorWords,
    /// The SHA-256 of all of the above and the rules' names.
    pub digest: [u8; 32],
    /// The names of all rules, in order.
    pub rule_names: Vec<String>,
    /// Distinct users (single ids and ranges) that rules name.
    pub user_count: usize,
}

/// An entry of the cgroup trie map.
#[derive(Clone, Copy)]
pub struct TrieEntry {
    /// The key: parent node and name.
    pub key: TrieKey,
    /// The child.
    pub node: TrieNode,
}

/// An entry of the map of names with `*`: state and byte, and the next state or the class.
pub type NameEntry = (NameKey, u32);

/// An entry of the map of addresses.
#[derive(Clone, Copy)]
pub struct AddressEntry {
    /// Length of the prefix, in bits of the key.
    pub prefix: u32,
    /// The network.
    pub key: AddressKey,
    /// Its class.
    pub class: u32,
}

/// An entry of the map of groups.
#[derive(Clone, Copy)]
pub struct GroupEntry {
    /// Bits of the key that count.
    pub prefix: u32,
    /// The first gid.
    pub key: GroupKey,
    /// The rules that name all gids of the block.
    pub rules: VectorWords,
}

impl Tables {
    /// The first 12 hex digits of the digest: the policy's name in events.
    #[must_use]
    pub fn short_digest(&self) -> String {
        hex::encode(&self.digest[..6])
    }

    /// The name of a rule by its number, `None` for the default.
    #[must_use]
    pub fn rule_name(&self, rule: u16) -> Option<&str> {
        self.rule_names.get(usize::from(rule)).map(String::as_str)
    }

    /// The digest of the tables and the names of the rules.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for page in &self.pages {
            hash.update(page.as_bytes());
        }
        for entry in &self.trie {
            hash.update(entry.key.parent.to_le_bytes());
            hash.update(entry.key.name);
            hash.update(entry.node.node.to_le_bytes());
            hash.update(entry.node.class.to_le_bytes());
        }
        for (key, next) in &self.names {
            hash.update(key.0.to_le_bytes());
            hash.update(next.to_le_bytes());
        }
        for entry in &self.addresses {
            hash.update(entry.prefix.to_le_bytes());
            hash.update([entry.key.space as u8]);
            hash.update(entry.key.address.as_bytes());
            hash.update(entry.class.to_le_bytes());
        }
        for entry in &self.groups {
            hash.update(entry.prefix.to_le_bytes());
            hash.update(entry.key.gid.to_le_bytes());
            hash.update(entry.rules.as_bytes());
        }
        hash.update(self.groupless.as_bytes());
        hash.update(self.groups_unread.as_bytes());
        hash.update(self.owners_unread.as_bytes());
        for name in &self.rule_names {
            hash.update(name.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

/// The edges that leave a node; entries are ordered by parent node.
pub(super) fn edges_of(entries: &[TrieEntry], node: u64) -> &[TrieEntry] {
    let begin = entries.partition_point(|entry| entry.key.parent < node);
    let end = entries.partition_point(|entry| entry.key.parent <= node);
    entries.get(begin..end).unwrap_or_default()
}
