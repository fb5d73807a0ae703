//! The steps of `test` that need no guest.

use crate::report::{Count, Outcome, cargo_count, final_count};
use crate::{repo, shell, tools};
use anyhow::{Context, Result, ensure};

/// Every file as rustfmt has it.
pub(super) fn formatting() -> Result<()> {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--", "--check"]))?;
    let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--", "--check"];
    shell::run(&mut shell::cargo(&fuzz))
}

/// No warning of the compiler's or of clippy's.
pub(super) fn clippy() -> Result<()> {
    let mut cargo = shell::cargo(&["clippy", "--release", "--all-targets"]);
    shell::run(cargo.args(["--", "-D", "warnings"]))
}

/// Unit and property tests.
pub(super) fn cargo_test() -> Result<Outcome> {
    let (success, output) = shell::tee(&mut shell::cargo(&["test", "--release"]))?;
    let count = cargo_count(&output);
    ensure!(!success || count.passed > 0, "cargo ran no test");
    Ok(Outcome::told(count.ended(success), &output))
}

/// Licences, versions and origins of the dependencies.
pub(super) fn dependencies() -> Result<()> {
    let mut deny = shell::command(tools::cargo_deny()?);
    shell::run(deny.args(["check", "bans", "licenses", "sources"]))
}

/// Known faults of the dependencies, where the database of them can be had; where it cannot,
/// nothing is counted, and the summary says so.
pub(super) fn advisories() -> Result<Count> {
    let deny = tools::cargo_deny()?;
    if let Err(error) = shell::run(shell::command(&deny).args(["fetch", "db"])) {
        eprintln!(
            "xtask: WARNING: the advisory database cannot be fetched ({error:#}).\n\
             xtask: WARNING: known faults of dependencies were NOT looked for."
        );
        return Ok(Count::default());
    }
    shell::run(shell::command(&deny).args(["check", "--disable-fetch", "advisories"]))?;
    Ok(Count::one(true))
}

/// The shipped policies, by the program's own eyes.
pub(super) fn policies() -> Result<Count> {
    let mut count = Count::default();
    let directory = repo::path("policies");
    for entry in std::fs::read_dir(&directory).context("reading policies")? {
        let policy = entry?.path();
        if policy
            .extension()
            .is_none_or(|extension| extension != "yaml")
        {
            continue;
        }
        let mut check = shell::command(repo::path("target/release/portguard"));
        let checked = shell::run(check.arg("check").arg(&policy));
        if let Err(error) = &checked {
            eprintln!("xtask: {error:#}");
        }
        count += Count::one(checked.is_ok());
    }
    ensure!(count != Count::default(), "there are no policies");
    Ok(count)
}

/// The tests on this machine's own kernel.
pub(super) fn native(filter: Option<&str>) -> Result<Outcome> {
    tools::for_native()?;
    let mut itest = shell::as_root(repo::path("target/release/portguard-itest"));
    let (success, output) = shell::tee(itest.arg("native").args(filter))?;
    let count = final_count(&output).context("the tests gave no sum")?;
    Ok(Outcome::told(count.ended(success), &output))
}
