//! The eBPF object: loaded, and its programs attached.

pub(in crate::kernel) mod attach;
pub(in crate::kernel) mod embedded;
pub(in crate::kernel) mod hook;
pub(in crate::kernel) mod load;
pub(in crate::kernel) mod program_cost;
