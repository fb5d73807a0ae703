//! The tests: what portguard must do, seen from outside.

mod addresses;
mod aggregation;
mod cgroups;
mod checks;
mod decide_in_kernel;
mod decisions;
mod enforce_existing;
mod environment;
mod existing_at_start;
mod faults;
mod file_changes;
mod flood;
mod health;
mod identity;
mod inventory;
mod lifetime;
mod metrics;
mod missing_features;
mod monitors;
mod pins;
mod policies;
mod protocols;
mod reload;
mod servers;
mod sinks;
mod unreadable;

pub(crate) use crate::harness::NotApplicable;
pub use faults::ROWS as FAULTS;
pub use identity::mount_nfs;
pub(crate) use protocols::Setting;

use crate::attack;
use crate::harness::{Needs, Test, TestEnv};

/// What a test does.
pub(crate) type TestFn = fn(&TestEnv) -> anyhow::Result<()>;

/// A module's tests.
pub(crate) type Table = &'static [(&'static str, Needs, TestFn)];

/// All tests, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Test> {
    let tables = [
        (false, decisions::TESTS),
        (false, decide_in_kernel::TESTS),
        (false, addresses::TESTS),
        (false, cgroups::TESTS),
        (false, unreadable::TESTS),
        (false, protocols::TESTS),
        (false, lifetime::TESTS),
        (false, reload::TESTS),
        (true, file_changes::TESTS),
        (true, flood::TESTS),
        (true, aggregation::TESTS),
        (true, sinks::TESTS),
        (true, metrics::TESTS),
        (true, monitors::TESTS),
        (true, pins::TESTS),
        (true, health::TESTS),
        (false, environment::TESTS),
        (false, missing_features::TESTS),
        (true, inventory::TESTS),
        (true, enforce_existing::TESTS),
        (true, existing_at_start::TESTS),
        (false, policies::TESTS),
        (false, servers::TESTS),
        (false, identity::TESTS),
        (false, attack::TESTS),
    ];
    let faults = faults::TABLES.map(|table| (true, table));
    let last = [(false, identity::LAST)];
    let tables = tables.into_iter().chain(faults).chain(last);
    let tests = tables.flat_map(|(lifecycle, table)| {
        table.iter().map(move |&(name, needs, run)| Test {
            name,
            needs,
            lifecycle,
            run,
        })
    });
    tests.collect()
}
