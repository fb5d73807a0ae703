//! `docs/failure-modes.md` and the tests that provoke its faults: no row without a test, no test without a row.

use portguard_itest::scenarios::{FAULTS, all};
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
fn every_row_has_a_test_and_every_test_a_row() {
    let documented: Vec<&str> = rows().iter().map(|cells| cells[0]).collect();
    let tested: Vec<&str> = FAULTS.iter().map(|(row, _)| *row).collect();
    // In the same order too, so that each is easily found.
    assert_eq!(documented, tested);
}

#[test]
fn every_fault_is_provoked_by_a_test_of_its_own() {
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
fn every_row_says_what_happens_and_what_to_do() {
    for cells in rows() {
        assert_eq!(cells.len(), 3, "{cells:?}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
    }
}
