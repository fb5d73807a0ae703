//! The maps of the programs: what is written to them and read from them.

pub(in crate::kernel) mod aggregates;
pub(in crate::kernel) mod counters;
mod install;
mod map_insert;
pub(in crate::kernel) mod map_set;
pub(in crate::kernel) mod policy_map;
pub(in crate::kernel) mod records;
mod wire;
