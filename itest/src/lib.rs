//! portguard's tests on real kernels: the real binary, real binds by real users in real cgroups.
#![allow(
    missing_docs,
    reason = "a crate of tests: a name that says enough needs no comment"
)]

pub mod attack;
pub mod bench;
pub mod convert;
pub mod demo;
pub mod fuzz_seeds;
pub mod generate;
pub mod harness;
pub mod oracle;
mod property;
pub mod scenarios;
pub mod seed;
pub mod shipped;
pub mod soak;
pub mod suite;
pub mod systemd;
pub mod verify;
