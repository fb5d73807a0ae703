//! The decision of portguard and everything that crosses the kernel boundary.
//!
//! This crate is compiled twice, into the eBPF programs and into the userspace binary, so that both
//! decide by the same code. It depends on neither: no maps, no helpers, no I/O, no allocation.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "userspace")]
extern crate std;

mod cgroup_trie;
mod decide;
mod event;
mod field;
mod group_rules;
mod image;
mod lpm_keys;
mod memo;
mod request;
mod vector;
mod verdict;
#[cfg(feature = "userspace")]
mod words;

pub use cgroup_trie::{MAX_CGROUP_DEPTH, MAX_CGROUP_NAME, NAME_BYTES, NameKey, TrieKey, TrieNode};
pub use decide::{
    Decision, Lookup, PORT_TABLE_START, UNRESOLVED_CLASS, decide_bind, deny_vector, is_protected,
    user_vector,
};
pub use event::{
    AGGREGATE_MORE, AGGREGATE_SEVERAL, AggregateKey, AggregateWords, CgroupRecord, Counter, Event,
    EventFlags, ExecutableRecord, MAX_AGGREGATES, MAX_EXECUTABLE_STEPS, NO_OWNER, RecordKind,
    Several, UID_EXECUTABLES, UID_QUOTA,
};
pub use field::Field;
pub use group_rules::{FixedGroups, GroupRules};
pub use image::{
    ABI_VERSION, CLASSES_PER_PAGE, Header, HeaderFlags, Image, MAX_CLASSES, MAX_PAGES, MAX_RULES,
    NO_RULE, PAGE_WORDS, PORTS_PER_PAGE, Page, PageTooFar, RuleWord, UserWord, VECTOR_WORDS,
    VECTORS_PER_PAGE, VectorWords, WORDS_PER_MASK, class_number, hits_pages, hits_slot,
};
pub use lpm_keys::{AddressKey, GroupKey};
pub use memo::{Answer, Entry, Kind, MEMO_ANSWERS, MEMO_CLASSES, MEMO_HITS, Memo, PortClass};
pub use request::{Family, Protocol, Request};
pub use vector::Vector;
pub use verdict::{EACCES, EADDRINUSE, EPERM, Errno, Hook, Reason, Verdict};
