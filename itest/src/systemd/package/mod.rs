//! The .deb in a fresh Debian with real dpkg: installed, upgraded, downgraded, broken, rebooted, removed, purged.
//!
//! Two runs: the second is after a reboot, which the first one leaves a file for.

mod dpkg;
mod end;
mod life;

use super::tests;
use crate::harness::runner::TestFn;
use crate::harness::{self, Kind};
use anyhow::Context as _;
use std::fs;
use std::path::Path;

/// Tells the second run from the first.
const REBOOTED: &str = "/var/lib/portguard-itest-rebooted";

/// In order: each begins with what the one before left.
const BEFORE: &[(&str, TestFn)] = &[
    ("package_is_installed_and_not_started", life::installed),
    ("package_default_policy_only_reports", life::default_policy),
    ("package_and_one_file_enforce", life::one_file),
    ("package_survives_kill", life::kill),
    ("package_upgrade_has_no_gap", life::upgrade),
    ("package_that_is_broken_leaves_the_old", life::broken),
    ("package_downgrade_has_no_gap", life::downgrade),
    ("package_rotates_the_file_sink", life::rotation),
];

const AFTER: &[(&str, TestFn)] = &[
    ("package_enforces_after_a_reboot", end::rebooted),
    ("package_remove_ends_enforcement", end::removed),
    ("package_that_comes_back_enforces", end::installed_again),
    ("package_remove_keeps_pins_where_told", end::kept),
    ("package_purge_leaves_nothing", end::purged),
];

/// Runs what is due, and reboots after the first half.
pub fn run() -> anyhow::Result<()> {
    if fs::remove_file(REBOOTED).is_ok() {
        return harness::run(Kind::Guest, None, &tests(AFTER));
    }
    harness::run(Kind::Guest, None, &tests(BEFORE))?;
    fs::write(REBOOTED, "").context(REBOOTED)?;
    println!("rebooting");
    let output = super::unit::systemctl(&["reboot"])?;
    anyhow::ensure!(output.status.success(), "systemctl reboot");
    // systemd ends this process.
    std::thread::sleep(harness::lines::DEADLINE);
    anyhow::bail!("no reboot, and {} is there", Path::new(REBOOTED).display())
}
