//! Links and maps in bpffs: enforcement without a daemon.

pub(in crate::kernel) mod manifest;
pub(in crate::kernel) mod offline_status;
pub(in crate::kernel) mod pin_directory;
