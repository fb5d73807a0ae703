//! All tests of a guest or of this machine, in the order in which they run.

use crate::attack;
use crate::harness::{Guests, Run, SharedTable, Table, Test};
use crate::scenarios::{self, faults};

/// The tests of decisions, which share one daemon.
#[must_use]
pub fn decisions() -> Vec<Test> {
    let tables = scenarios::SHARED.into_iter().chain([attack::SHARED]);
    let mut tests: Vec<Test> = tables
        .flat_map(|table| shared(table, Guests::All))
        .collect();
    let load = scenarios::SHARED_LOAD.into_iter();
    tests.extend(load.flat_map(|table| shared(table, Guests::Between)));
    tests
}

/// All tests, those of decisions first: their daemon is stopped before any other test.
#[must_use]
pub fn all() -> Vec<Test> {
    let mut tests = decisions();
    tests.extend(
        scenarios::KERNEL
            .into_iter()
            .flat_map(|table| alone(table, Guests::All)),
    );
    tests.extend(alone(attack::TESTS, Guests::All));
    tests.extend(alone(attack::LIFECYCLE, Guests::Some));
    for (tables, guests) in [
        (&scenarios::LOAD_AND_ORDER[..], Guests::Between),
        (&scenarios::RELOAD_AND_SOCKETS[..], Guests::Two),
        (&scenarios::LIFECYCLE[..], Guests::Some),
        (&faults::OF_KERNEL[..], Guests::Some),
        (&scenarios::DAEMON[..], Guests::One),
        (&faults::OF_DAEMON[..], Guests::One),
    ] {
        tests.extend(tables.iter().flat_map(|table| alone(table, guests)));
    }
    tests.extend(alone(scenarios::LAST, Guests::Some));
    tests
}

fn shared(table: SharedTable, guests: Guests) -> impl Iterator<Item = Test> {
    table.iter().map(move |&(name, needs, run)| Test {
        name,
        needs,
        guests,
        run: Run::Shared(run),
    })
}

fn alone(table: Table, guests: Guests) -> impl Iterator<Item = Test> {
    table.iter().map(move |&(name, needs, run)| Test {
        name,
        needs,
        guests,
        run: Run::Alone(run),
    })
}
