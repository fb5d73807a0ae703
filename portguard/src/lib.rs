//! The daemon and the command of portguard: puts policies in force and reports decisions.
//!
//! The data goes one way: a policy's tables (from `portguard_policy`) -> [`kernel`] (maps, programs) -> [`event`]
//! -> [`sink`]; [`daemon`] wires it, [`cli`] is what people see. Dependencies point in that order; only
//! [`kernel`] names aya.

pub mod cgroups;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod event;
pub mod inventory;
pub mod kernel;
pub mod memory;
pub mod metrics;
pub mod say;
pub mod sink;
pub mod source;
pub mod status;
pub mod systemd;
pub mod watch;
