//! What the machine offers: its kernel's structures, its conditions, and the programs of others.

pub(in crate::kernel) mod btf;
pub(in crate::kernel) mod condition;
pub(in crate::kernel) mod environment;
mod host;
pub(in crate::kernel) mod local_ports;
pub(in crate::kernel) mod namespaces;
pub(in crate::kernel) mod offsets;
pub(in crate::kernel) mod other_programs;
mod securityfs;
