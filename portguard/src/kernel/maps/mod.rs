//! The maps of the programs: what is written to them and read from them.

pub(in crate::kernel) mod aggregates;
pub(in crate::kernel) mod counters;
pub(in crate::kernel) mod inner_maps;
pub(in crate::kernel) mod map_insert;
pub(in crate::kernel) mod map_set;
pub(in crate::kernel) mod policy_map;
pub(in crate::kernel) mod records;
pub(in crate::kernel) mod slots;
pub(in crate::kernel) mod stale_entries;
pub(in crate::kernel) mod wire;
