//! What the tests are made of: the machine, a running portguard, processes that bind, and what each reports.

pub mod active_lsms;
pub(crate) mod bind_load;
pub(crate) mod cgroups;
pub(crate) mod doctor;
pub(crate) mod elf32;
pub mod env;
pub(crate) mod events;
pub(crate) mod foreign_links;
pub(crate) mod foreign_object;
pub(crate) mod frozen;
pub mod instance;
pub(crate) mod lines;
pub(crate) mod monitor_client;
pub(crate) mod netlink;
pub(crate) mod oracle_probe;
pub mod probe;
pub mod probe_child;
pub(crate) mod raw_syscalls;
pub mod runner;
pub(crate) mod scrape;
pub mod shared;
pub mod socket_holder;
pub(crate) mod sysctl;

pub use env::{Kind, TestEnv};
pub use runner::{Guests, Needs, NotApplicable, Run, SharedTable, Table, Test, run};
pub use shared::SharedInstance;
