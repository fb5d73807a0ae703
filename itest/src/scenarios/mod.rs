//! Scenarios: what portguard must do, observed from outside.

mod accounts;
mod addresses;
mod aggregation;
mod broken_at_start;
mod cgroups;
mod checks;
mod decide_in_kernel;
mod decisions;
mod dropped_user;
mod enforce_existing;
mod environment;
mod errnos;
mod executables;
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
mod subordinate_ids;
mod unreadable;
mod without_process;

pub use executables::bind_then_exec;
pub use identity::mount_nfs;

use crate::harness::{SharedTable, Table};

/// Tests of decisions.
pub(crate) const SHARED: [SharedTable; 11] = [
    decisions::SHARED,
    errnos::TESTS,
    addresses::TESTS,
    cgroups::TESTS,
    protocols::TESTS,
    lifetime::SHARED,
    environment::SHARED,
    policies::TESTS,
    servers::TESTS,
    identity::TESTS,
    subordinate_ids::TESTS,
];

/// Tests of decisions that are the same on every kernel, if those of the others are.
pub(crate) const SHARED_LOAD: [SharedTable; 1] = [policies::SHIPPED];

/// Tests whose result may differ from kernel to kernel.
pub(crate) const KERNEL: [Table; 4] = [
    decisions::TESTS,
    decide_in_kernel::TESTS,
    environment::TESTS,
    executables::PATHS,
];

/// Tests of what a daemon does by the kernel: pins, attached programs, capabilities, the ends of others' sockets.
pub(crate) const LIFECYCLE: [Table; 8] = [
    unreadable::TESTS,
    missing_features::TESTS,
    lifetime::ENDS,
    pins::TESTS,
    health::TESTS,
    without_process::TESTS,
    enforce_existing::TESTS,
    privileges::TESTS,
];

/// Tests of reloads, and of the sockets of others.
pub(crate) const RELOAD_AND_SOCKETS: [Table; 2] = [reload::TESTS, inventory::TESTS];

/// Tests of load, namespaces, messages, and the order and number of records.
pub(crate) const LOAD_AND_ORDER: [Table; 7] = [
    lifetime::TESTS,
    environment::MESSAGES,
    executables::RECORDS,
    namespaces::TESTS,
    aggregation::TESTS,
    flood::TESTS,
    dropped_user::TESTS,
];

/// Tests of what a daemon does with files, pins of others, sockets of its own and readers.
pub(crate) const DAEMON: [Table; 10] = [
    pins::DAMAGED,
    foreign_pins::TESTS,
    flood::SOAK,
    accounts::TESTS,
    broken_at_start::TESTS,
    file_changes::TESTS,
    sinks::TESTS,
    metrics::TESTS,
    monitors::TESTS,
    existing_at_start::TESTS,
];

pub(crate) const LAST: Table = identity::LAST;
