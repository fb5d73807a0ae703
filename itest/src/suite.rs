//! All tests of a guest or of this machine, in the order in which they run.

use crate::attack;
use crate::harness::{Run, SharedTable, Table, Test};
use crate::scenarios::{self, faults};

/// The tests of decisions come first: they share one daemon, which is stopped before any other test.
#[must_use]
pub fn all() -> Vec<Test> {
    let mut tests: Vec<Test> = scenarios::SHARED
        .into_iter()
        .chain([attack::SHARED])
        .flat_map(shared)
        .collect();
    tests.extend(
        scenarios::KERNEL
            .into_iter()
            .flat_map(|table| alone(table, false)),
    );
    tests.extend(alone(attack::TESTS, false));
    tests.extend(
        scenarios::LIFECYCLE
            .into_iter()
            .flat_map(|table| alone(table, true)),
    );
    tests.extend(
        faults::TABLES
            .into_iter()
            .flat_map(|table| alone(table, true)),
    );
    tests.extend(alone(scenarios::LAST, false));
    tests
}

fn shared(table: SharedTable) -> impl Iterator<Item = Test> {
    table.iter().map(|&(name, needs, run)| Test {
        name,
        needs,
        lifecycle: false,
        run: Run::Shared(run),
    })
}

fn alone(table: Table, lifecycle: bool) -> impl Iterator<Item = Test> {
    table.iter().map(move |&(name, needs, run)| Test {
        name,
        needs,
        lifecycle,
        run: Run::Alone(run),
    })
}
