//! Why a policy does not compile, and the limits of its tables.

use portguard_common::{MAX_CLASSES, MAX_RULES, PAGE_WORDS};
use thiserror::Error;

/// Words that the user pages hold: what one index page can point to.
pub(super) const MAX_USER_WORDS: usize = PAGE_WORDS * PAGE_WORDS;
/// Nodes and edges of a cgroup trie: two generations fit the map.
pub(super) const MAX_NODES: usize = 1 << 16;
/// Entries of the table of addresses: two generations fit the map.
pub(super) const MAX_ADDRESSES: usize = 1 << 16;
/// Entries of the table of groups: two generations fit the map.
pub(super) const MAX_GROUPS: usize = 1 << 15;

/// Why a policy cannot be compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// More rules than a vector has bits.
    #[error(
        "the policy has {0} rules, the limit is {MAX_RULES}: merge rules or split the policy over hosts"
    )]
    TooManyRules(usize),
    /// More user ranges than the user pages hold.
    #[error("the policy names {0} distinct user ranges, the limit is {limit}: use ranges", limit = MAX_USER_WORDS)]
    TooManyUsers(usize),
    /// More classes of ports, cgroups or addresses than 16 bits can number. (User classes have 31 bits.)
    #[error(
        "the rules make {0} classes of {1}, the limit is {MAX_CLASSES}: let more rules share the same {1}"
    )]
    TooManyClasses(usize, &'static str),
    /// More cgroup paths than the map of names holds.
    #[error("the rules name {0} distinct cgroups, the limit is {limit}", limit = MAX_NODES)]
    TooManyCgroups(usize),
    /// Names with `*` whose automaton is too large.
    #[error(
        "the {0} names with `*` in cgroups and units are too complex together: use fewer that have a `*` at their beginning or in their middle"
    )]
    PatternsTooComplex(usize),
    /// More networks than the map of addresses holds.
    #[error("the rules name {0} distinct networks, the limit is {limit}", limit = MAX_ADDRESSES)]
    TooManyAddresses(usize),
    /// More blocks of gids than the map of groups holds.
    #[error("the rules name {0} distinct blocks of groups, the limit is {limit}", limit = MAX_GROUPS)]
    TooManyGroups(usize),
}
