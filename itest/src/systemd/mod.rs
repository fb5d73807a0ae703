//! The shipped unit, in a guest booted with systemd.

mod capabilities;
mod guarded;
mod life;
pub mod package;
mod place;
mod unit;

use crate::harness::runner::TestFn;
use crate::harness::{self, Guests, Kind, Needs, Run, Test};

/// In order: the first test checks the state after boot.
const TESTS: &[(&str, TestFn)] = &[
    ("systemd_in_force_before_services", place::before_services),
    ("systemd_verify_and_exposure", place::verify_and_exposure),
    ("systemd_decisions_in_journal", place::decisions_in_journal),
    ("systemd_active_once_ready", life::active_once_ready),
    ("systemd_reload", life::reload),
    ("systemd_kill", life::kill),
    ("systemd_upgrade", life::upgrade),
    ("systemd_watchdog", life::watchdog),
    ("systemd_stop_and_detach", life::stop_and_detach),
    ("systemd_capabilities", capabilities::each_is_needed),
];

pub fn run(filter: Option<&str>) -> anyhow::Result<()> {
    harness::run(Kind::Guest, filter, &tests(TESTS))
}

/// The tests of a table of this suite.
fn tests(table: &[(&'static str, TestFn)]) -> Vec<Test> {
    let test = |&(name, run): &(&'static str, TestFn)| Test {
        name,
        needs: Needs::Nothing,
        guests: Guests::All,
        run: Run::Alone(run),
    };
    table.iter().map(test).collect()
}
