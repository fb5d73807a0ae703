//! The tests: what portguard must do, seen from outside.

mod addresses;
mod cgroups;
mod changes;
mod checks;
mod closing;
mod decisions;
mod elders;
mod environment;
mod existing;
mod faults;
mod flood;
mod folds;
mod identity;
mod keeping;
mod lifetime;
mod metrics;
mod missing;
mod monitors;
mod pins;
mod policies;
mod protocols;
mod reload;
mod servers;
mod sinks;

pub(crate) use crate::harness::NotApplicable;
pub use faults::ROWS as FAULTS;
pub use identity::mount_nfs;
pub(crate) use protocols::Setting;

use crate::attack;
use crate::harness::{Needs, Test, World};

/// What a test does.
pub(crate) type TestFn = fn(&World) -> anyhow::Result<()>;

/// A module's tests.
pub(crate) type Table = &'static [(&'static str, Needs, TestFn)];

/// All tests, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Test> {
    let tables = [
        (false, decisions::TESTS),
        (false, addresses::TESTS),
        (false, cgroups::TESTS),
        (false, protocols::TESTS),
        (false, lifetime::TESTS),
        (false, reload::TESTS),
        (true, changes::TESTS),
        (true, flood::TESTS),
        (true, folds::TESTS),
        (true, sinks::TESTS),
        (true, metrics::TESTS),
        (true, monitors::TESTS),
        (true, pins::TESTS),
        (true, keeping::TESTS),
        (false, environment::TESTS),
        (false, missing::TESTS),
        (true, existing::TESTS),
        (true, closing::TESTS),
        (true, elders::TESTS),
        (false, policies::TESTS),
        (false, servers::TESTS),
        (false, identity::TESTS),
        (false, attack::TESTS),
    ];
    let faults = faults::TABLES.map(|table| (true, table));
    let last = [(false, identity::LAST)];
    let tables = tables.into_iter().chain(faults).chain(last);
    let tests = tables.flat_map(|(of_life, table)| {
        table.iter().map(move |&(name, needs, run)| Test {
            name,
            needs,
            of_life,
            run,
        })
    });
    tests.collect()
}
