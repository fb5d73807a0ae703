//! Policy -> tables: the image that `decide` reads, and the trie of cgroup names.
//!
//! Pure: the same policy gives the same tables, whose digest names the policy in events.

mod cgroup_trie;
mod classes;
mod evaluate;
mod glob_dfa;
mod lpm;
mod pages;
mod witness;

pub(crate) use classes::ports_of_rules;
pub(crate) use witness::{addresses as address_witnesses, cgroups as cgroup_witnesses};

use crate::policy::{Policy, PolicyTest};
use portguard_common::{
    AddressKey, GroupKey, HeaderFlags, MAX_CLASSES, MAX_RULES, NameKey, Page, Protocol, TrieKey,
    TrieNode, VectorWords, Verdict,
};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use thiserror::Error;
use zerocopy::IntoBytes;

/// Why a policy cannot be compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// More rules than a vector has bits.
    #[error(
        "the policy has {0} rules, the limit is {MAX_RULES}: merge rules or split the policy over hosts"
    )]
    TooManyRules(usize),
    /// More user ranges than the user pages hold.
    #[error("the policy names {0} distinct user ranges, the limit is {limit}: use ranges", limit = pages::MAX_USER_WORDS)]
    TooManyUsers(usize),
    /// More sets of rules by port or by cgroup than 16 bits number. (User classes have 31 bits.)
    #[error(
        "the rules make {0} classes of {1}, the limit is {MAX_CLASSES}: let more rules share the same {1}"
    )]
    TooManyClasses(usize, &'static str),
    /// More cgroup paths than the map of names holds.
    #[error("the rules name {0} distinct cgroups, the limit is {limit}", limit = cgroup_trie::MAX_NODES)]
    TooManyCgroups(usize),
    /// Names with `*` whose automaton is too large.
    #[error(
        "the {0} names with `*` in cgroups and units are too complex together: use fewer that have a `*` at their beginning or in their middle"
    )]
    PatternsTooComplex(usize),
    /// More networks than the map of addresses holds.
    #[error("the rules name {0} distinct networks, the limit is {limit}", limit = lpm::MAX_ADDRESSES)]
    TooManyAddresses(usize),
    /// More blocks of gids than the map of groups holds.
    #[error("the rules name {0} distinct blocks of groups, the limit is {limit}", limit = lpm::MAX_GROUPS)]
    TooManyGroups(usize),
}

/// A compiled policy: what the maps of the programs are filled with, all keys under generation 0.
#[derive(Clone)]
pub struct Tables {
    /// The image, page by page.
    pub pages: Vec<Page>,
    /// The cgroup trie: node after node, of each node first its edges by name, in order.
    pub trie: Vec<TrieEntry>,
    /// The automaton of the names with `*`, in order of its keys.
    pub names: Vec<NameEntry>,
    /// The networks that rules name.
    pub addresses: Vec<AddressEntry>,
    /// The blocks of gids that rules name.
    pub groups: Vec<GroupEntry>,
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

/// An entry of the map of names with `*`: state and byte, and what follows.
pub type NameEntry = (NameKey, u32);

/// An entry of the map of addresses.
#[derive(Clone, Copy)]
pub struct AddressEntry {
    /// Bits of the key that count.
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

/// A bind as userspace asks about it.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'a> {
    /// Port, host byte order.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Every gid that counts: real, effective and supplementary.
    pub gids: &'a [u32],
    /// The caller's cgroup: its components below the root.
    pub cgroup: &'a [&'a str],
    /// The address; an IPv4-mapped one counts as IPv4.
    pub address: IpAddr,
    /// Whether an address `::` takes IPv4 too: the socket is not `IPV6_V6ONLY`. Then it is `0.0.0.0` as well:
    /// `allow` and `kernel` rules want both named, `deny` rules take either.
    pub dual_stack: bool,
}

impl<'a> Bind<'a> {
    /// What an entry of `tests:` asks about; `cgroup` is its own, as the components of a bind are.
    #[must_use]
    pub fn of_test(test: &'a PolicyTest, cgroup: &'a [&'a str]) -> Self {
        Self {
            port: test.port,
            protocol: test.protocol,
            uid: test.user,
            euid: test.user,
            gids: &test.groups,
            cgroup,
            address: test.address,
            dual_stack: true,
        }
    }
}

/// Compiles a policy. The tables carry generation 0; the number of an installation is added to their keys
/// when they are written to the maps.
///
/// # Errors
/// Where a table would be larger than the kernel side can read.
pub fn compile(policy: &Policy) -> Result<Tables, CompileError> {
    if policy.rules.len() > MAX_RULES {
        return Err(CompileError::TooManyRules(policy.rules.len()));
    }
    let cgroups = cgroup_trie::build(&policy.rules, cgroup_trie::MAX_NODES)?;
    let addresses = lpm::addresses(&policy.rules)?;
    let users = classes::users(&policy.rules);
    let pages = pages::build(policy, &users, &cgroups, &addresses)?;
    let mut tables = Tables {
        pages,
        trie: cgroups.entries,
        names: cgroups.names,
        addresses: addresses.entries,
        groups: lpm::groups(&policy.rules)?,
        digest: [0; 32],
        rule_names: policy.rules.iter().map(|rule| rule.name.clone()).collect(),
        user_count: classes::distinct_users(&policy.rules),
    };
    tables.digest = tables.hash();
    Ok(tables)
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

    fn hash(&self) -> [u8; 32] {
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
        for name in &self.rule_names {
            hash.update(name.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

/// The flags of a policy's header.
fn header_flags(policy: &Policy) -> u64 {
    use crate::policy::{Log, Mode, Scope};
    let mut flags = 0;
    if policy.mode == Mode::Enforce {
        flags |= HeaderFlags::ENFORCE;
    }
    if policy.scope == Scope::All {
        flags |= HeaderFlags::ALL_NETNS;
    }
    let named = policy
        .rules
        .iter()
        .any(|rule| rule.cgroups.is_some() || rule.units.is_some());
    if policy.rules.iter().any(|rule| rule.groups.is_some()) {
        flags |= HeaderFlags::GROUP_RULES | HeaderFlags::GROUP_OR_ADDRESS_RULES;
    }
    if policy.rules.iter().any(|rule| rule.addresses.is_some()) {
        flags |= HeaderFlags::GROUP_OR_ADDRESS_RULES;
    }
    if named {
        flags |= HeaderFlags::CGROUP_RULES;
    }
    // Walking a path also makes the record by which an event can name a cgroup that is gone by then.
    if named || policy.log != Log::None {
        flags |= HeaderFlags::CGROUP_PATHS;
    }
    let mut rules = policy.rules.iter();
    if policy.default != Verdict::Kernel
        || rules.any(|rule| rule.action != Verdict::Kernel && !rule.audit)
    {
        flags |= HeaderFlags::ACTS;
    }
    flags
}
