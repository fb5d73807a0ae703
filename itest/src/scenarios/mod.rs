//! Scenarios: what portguard must do, observed from outside.

mod accounts;
mod addresses;
mod aggregation;
mod broken_at_start;
mod cgroups;
mod checks;
mod decide_in_kernel;
mod decisions;
mod enforce_existing;
mod environment;
mod existing_at_start;
pub mod faults;
mod file_changes;
mod flood;
mod foreign_pins;
mod health;
mod identity;
mod inventory;
mod lifetime;
mod metrics;
mod missing_features;
mod monitors;
mod namespaces;
mod pins;
mod policies;
mod privileges;
mod protocols;
mod reload;
mod servers;
mod sinks;
mod unreadable;

pub use identity::mount_nfs;

use crate::harness::{SharedTable, Table};

/// Tests of decisions.
pub(crate) const SHARED: [SharedTable; 9] = [
    decisions::SHARED,
    addresses::TESTS,
    cgroups::TESTS,
    protocols::TESTS,
    lifetime::SHARED,
    environment::SHARED,
    policies::TESTS,
    servers::TESTS,
    identity::TESTS,
];

/// Tests whose result may differ from kernel to kernel.
pub(crate) const KERNEL: [Table; 8] = [
    decisions::TESTS,
    decide_in_kernel::TESTS,
    unreadable::TESTS,
    lifetime::TESTS,
    reload::TESTS,
    environment::TESTS,
    missing_features::TESTS,
    namespaces::TESTS,
];

/// Tests of what a daemon does by the kernel: pins, attached programs, rings, the sockets of others.
pub(crate) const LIFECYCLE: [Table; 8] = [
    flood::TESTS,
    aggregation::TESTS,
    pins::TESTS,
    foreign_pins::TESTS,
    health::TESTS,
    inventory::TESTS,
    enforce_existing::TESTS,
    privileges::TESTS,
];

/// Tests of what a daemon does with files, sockets of its own and readers.
pub(crate) const DAEMON: [Table; 7] = [
    accounts::TESTS,
    broken_at_start::TESTS,
    file_changes::TESTS,
    sinks::TESTS,
    metrics::TESTS,
    monitors::TESTS,
    existing_at_start::TESTS,
];

pub(crate) const LAST: Table = identity::LAST;
