//! The daemon and the command of portguard: puts policies in force and reports decisions.
//!
//! The data goes one way: a policy's tables (from `portguard_policy`) -> [`kernel`] (maps, programs) -> [`events`] and their
//! sinks; [`daemon`] wires it, [`cli`] is what people see. Dependencies point in that order; only
//! [`kernel`] names aya.

pub mod account_lookup;
pub mod account_names;
pub mod cgroup_mount;
#[cfg(feature = "cli")]
pub mod cli;
pub mod control;
pub mod counted;
pub mod daemon;
pub mod events;
pub mod exit;
pub mod inventory;
pub mod kernel;
pub mod loader;
pub mod metrics;
pub mod output;
pub mod policy_names;
pub mod policy_paths;
pub mod policy_store;
pub mod process;
pub mod run;
pub mod sandbox;
pub mod status;
pub mod stderr;
#[cfg(feature = "cli")]
pub mod stdout;
pub mod systemd;
pub mod user_namespaces;
pub mod watch;
