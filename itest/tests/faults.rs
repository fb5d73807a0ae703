//! Every row of `docs/failure-modes.md` has a test, and every test of a fault has a row.

use portguard_itest::{scenarios::faults::ROWS as FAULTS, suite::all};
use std::collections::BTreeSet;

const DOC: &str = include_str!("../../docs/failure-modes.md");

/// The cells of the table's rows, without the heading.
fn rows() -> Vec<Vec<&'static str>> {
    let lines = DOC.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn rows_and_tests_match() {
    let documented: Vec<&str> = rows().iter().map(|cells| cells[0]).collect();
    let tested: Vec<&str> = FAULTS.iter().map(|(row, _)| *row).collect();
    // In the same order too.
    assert_eq!(documented, tested);
}

#[test]
fn each_fault_has_its_own_test() {
    let named: BTreeSet<&str> = FAULTS.iter().map(|(_, test)| *test).collect();
    assert_eq!(named.len(), FAULTS.len(), "a test stands for two rows");
    let tests: BTreeSet<&str> = all().iter().map(|test| test.name).collect();
    for name in &named {
        assert!(tests.contains(name), "there is no test {name}");
    }
    for name in tests.iter().filter(|name| name.starts_with("fault_")) {
        assert!(
            named.contains(name),
            "{name} has no row in docs/failure-modes.md"
        );
    }
}

#[test]
fn rows_have_three_cells() {
    for cells in rows() {
        assert_eq!(cells.len(), 3, "{cells:?}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
    }
}
