//! Policy -> tables: the image that `decide` reads, and the trie of cgroup names.
//!
//! Pure: the same policy gives the same tables, whose digest names the policy in events.

mod bind;
mod cgroup_trie;
mod classes;
mod error;
mod evaluate;
mod glob_dfa;
mod lpm;
mod memo;
mod pages;
mod tables;
mod witness;

pub use bind::{Bind, Gids, Owner, Setgid};
pub use error::CompileError;
pub use evaluate::Remembered;
pub use tables::{AddressEntry, GroupEntry, NameEntry, Tables, TrieEntry};

pub(crate) use classes::ports_of_rules;
pub(crate) use lpm::implied_wildcards;
pub(crate) use witness::{addresses as address_witnesses, cgroups as cgroup_witnesses};

use crate::policy::Policy;
use error::MAX_NODES;
use portguard_common::MAX_RULES;

/// Compiles a policy. The tables carry generation 0; the number of an installation is added to their keys
/// when they are written to the maps.
///
/// # Errors
/// Where a table would be larger than its map.
pub fn compile(policy: &Policy) -> Result<Tables, CompileError> {
    if policy.rules.len() > MAX_RULES {
        return Err(CompileError::TooManyRules(policy.rules.len()));
    }
    let cgroups = cgroup_trie::build(&policy.rules, MAX_NODES)?;
    let addresses = lpm::addresses(&policy.rules)?;
    let users = classes::users(&policy.rules);
    let pages = pages::build(policy, &users, &cgroups, &addresses)?;
    let groupless = lpm::groupless(&policy.rules);
    let mut tables = Tables {
        pages,
        trie: cgroups.entries,
        names: cgroups.names,
        addresses: addresses.entries,
        groups: lpm::groups(&policy.rules)?,
        groupless: groupless.vector(),
        groups_unread: groupless.and_denials(&policy.rules).vector(),
        owners_unread: classes::enforced_denials_by_user(&policy.rules).vector(),
        digest: [0; 32],
        rule_names: policy.rules.iter().map(|rule| rule.name.clone()).collect(),
        user_count: classes::distinct_users(&policy.rules),
    };
    tables.digest = tables.hash();
    Ok(tables)
}
