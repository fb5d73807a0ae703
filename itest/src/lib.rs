//! portguard's tests on real kernels: the real binary, real binds by real users in real cgroups.

pub mod attack;
pub mod bench;
pub mod convert;
pub mod daemon;
pub mod demo;
pub mod generate;
pub mod harness;
pub mod oracle;
pub mod property;
pub mod scenarios;
pub mod seed;
pub mod shipped;
pub mod soak;
pub mod systemd;
pub mod verify;
