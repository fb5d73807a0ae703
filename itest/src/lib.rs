//! portguard's tests on real kernels: the real binary, real binds by real users in real cgroups.

pub mod acting;
pub mod attack;
pub mod bench;
pub mod bridge;
pub mod daemon;
pub mod demo;
mod elf32;
pub mod generate;
mod hammer;
pub mod harness;
pub mod holding;
pub mod instance;
mod links;
pub mod lsms;
pub mod oracle;
pub mod probe;
pub mod property;
pub mod real;
pub mod scenarios;
mod scrape;
pub mod seed;
pub mod shipped;
pub mod soak;
pub mod systemd;
pub mod verify;
mod watching;

mod others;
mod raw;
