//! The policy language of portguard: who may bind which port, as YAML and as tables for the kernel.
//!
//! The data goes one way: YAML -> [`policy`] -> [`compile`] -> tables, which `portguard` installs.
//! [`analysis`] answers questions about all binds; [`yaml`] is the way back from a policy to YAML, for
//! [`suggest`] too. This crate knows no kernel interface: it builds and tests on any machine with Rust.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod compile;
pub mod escape;
pub mod local_ports;
pub mod policy;
pub mod suggest;
pub mod yaml;
