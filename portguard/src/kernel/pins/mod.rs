//! Links and maps in bpffs: enforcement without a daemon.
//!
//! `/sys/fs/bpf/portguard/vN/` has every map under its name and every link as `link_PROGRAM`; `N` is the ABI of
//! the maps. The map `META` records what the links are, and is written last: a directory without it was left by a
//! start that was killed, or changed by another program.

pub(in crate::kernel) mod manifest;
pub(in crate::kernel) mod offline_status;
pub(in crate::kernel) mod pin_condition;
pub(in crate::kernel) mod pin_directory;
pub(in crate::kernel) mod pin_paths;
mod pin_root;
