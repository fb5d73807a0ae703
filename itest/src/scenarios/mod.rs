//! The tests: what portguard must do, seen from outside.

mod addresses;
mod cgroups;
mod checks;
mod closing;
mod decisions;
mod environment;
mod existing;
mod faults;
mod flood;
mod identity;
mod lifetime;
mod missing;
mod pins;
mod policies;
mod protocols;
mod reload;
mod servers;

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
        decisions::TESTS,
        addresses::TESTS,
        cgroups::TESTS,
        protocols::TESTS,
        lifetime::TESTS,
        reload::TESTS,
        flood::TESTS,
        pins::TESTS,
        environment::TESTS,
        missing::TESTS,
        existing::TESTS,
        closing::TESTS,
        policies::TESTS,
        servers::TESTS,
        identity::TESTS,
        attack::TESTS,
    ];
    tables
        .into_iter()
        .chain(faults::TABLES)
        .chain([identity::LAST])
        .flatten()
        .map(|&(name, needs, run)| Test { name, needs, run })
        .collect()
}
