//! Random policies and binds.
//!
//! Ports, users and cgroups come from small clusters, and many binds are made beside the edge of a range of their
//! policy, so that hits, overlaps and off-by-one mistakes are frequent instead of rare.

mod binds;
mod config;
mod fields;
mod policies;

pub use config::{GeneratorConfig, LAST_UID};
pub use policies::{case, model, sparse_case};
