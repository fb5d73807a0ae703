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
        decisions::TESTS,
        addresses::TESTS,
        cgroups::TESTS,
        protocols::TESTS,
        lifetime::TESTS,
        reload::TESTS,
        changes::TESTS,
        flood::TESTS,
        folds::TESTS,
        sinks::TESTS,
        metrics::TESTS,
        monitors::TESTS,
        pins::TESTS,
        keeping::TESTS,
        environment::TESTS,
        missing::TESTS,
        existing::TESTS,
        closing::TESTS,
        elders::TESTS,
        policies::TESTS,
        servers::TESTS,
        identity::TESTS,
        attack::TESTS,
        identity::LAST,
    ];
    tables
        .into_iter()
        .flatten()
        .map(|&(name, needs, run)| Test { name, needs, run })
        .collect()
}
