//! The policy language of portguard: which callers may bind which ports, as YAML and as tables for the kernel.
//!
//! Data goes one way: YAML -> [`policy`] -> [`compile`] -> tables, which `portguard` installs. [`analysis`]
//! answers questions about all binds; [`yaml`] writes a policy as YAML again, for [`suggest`] too. This crate
//! uses no BPF interface: it builds and tests on any Linux machine with Rust.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod compile;
pub mod escape;
pub mod local_ports;
pub mod path_parts;
pub mod policy;
pub mod suggest;
pub mod units;
pub mod yaml;
