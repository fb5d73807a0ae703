//! What the tests are made of: the machine, a running portguard, processes that bind, and what each reports.

pub mod active_lsms;
pub(crate) mod bind_load;
pub mod bind_runner;
pub(crate) mod elf32;
pub(crate) mod events;
pub(crate) mod foreign_links;
pub(crate) mod foreign_object;
pub mod instance;
pub(crate) mod monitor_client;
pub mod probe;
pub mod probe_child;
pub(crate) mod raw_syscalls;
pub mod runner;
pub(crate) mod scrape;
pub mod socket_holder;

pub use runner::{Kind, Needs, NotApplicable, Test, TestEnv, run, soak};
