//! The steps of `test` that need no guest.

use crate::build::{self, Profile};
use crate::results::{Count, StepResult, cargo_count, final_count};
use crate::{repo, shell, tools};
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// The crate that must build without eBPF tools.
const POLICY_CRATE: &str = "portguard-policy";

/// What that crate may not depend on: whatever embeds or loads eBPF programs.
const EBPF_CRATES: [&str; 4] = ["portguard", "portguard-ebpf", "aya", "aya-obj"];

/// Checks that every file is formatted.
pub(super) fn formatting() -> Result<()> {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--", "--check"]))
}

/// Tests the policy crate as on a machine without eBPF tools: it depends on nothing that needs an eBPF object, and
/// the object is not where the build looks for it.
pub(super) fn policy_crate() -> Result<StepResult> {
    let tree = [
        "tree",
        "-p",
        POLICY_CRATE,
        "--all-features",
        "--prefix",
        "none",
    ];
    let tree = shell::output(&mut shell::cargo(&tree))?;
    let forbidden = ebpf_crates(&tree);
    ensure!(
        forbidden.is_empty(),
        "{POLICY_CRATE} depends on {}, and so on an eBPF object",
        forbidden.join(", ")
    );
    // Unoptimised, as a newcomer's first build: faster, since the crates it uses are not built for this step only.
    let test = ["test", "--all-features", "-p", POLICY_CRATE];
    tested(&mut build::cargo_without_object(&test))
}

/// Tests xtask, in the profile in which it is built to run this.
pub(super) fn xtask() -> Result<StepResult> {
    tested(&mut build::cargo_without_object(&["test", "-p", "xtask"]))
}

/// The crates of a tree, `NAME vVERSION ...` on each line, that need an eBPF object.
fn ebpf_crates(tree: &str) -> Vec<&'static str> {
    let named = |name: &&str| {
        let mut names = tree.lines().filter_map(|line| line.split(' ').next());
        names.any(|found| found == *name)
    };
    EBPF_CRATES.into_iter().filter(named).collect()
}

/// Checks that neither the compiler nor clippy warns, with the default features and with all, and of the daemon with the
/// features that it is shipped with.
pub(super) fn clippy() -> Result<()> {
    tools::for_fuzzing()?;
    let everything = [
        "--all-targets",
        "--workspace",
        "--exclude",
        "portguard-ebpf",
    ];
    let daemon = [
        "-p",
        "portguard",
        "--no-default-features",
        "--bins",
        "--lib",
    ];
    for (of, features) in [
        (&everything[..], None),
        (&everything, Some("--all-features")),
        (&daemon, None),
    ] {
        let mut cargo = build::cargo(&["clippy"]);
        cargo.arg(Profile::Suite.argument()).args(of).args(features);
        shell::run(cargo.args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Runs unit and property tests with all features.
pub(super) fn cargo_test() -> Result<StepResult> {
    tested(&mut build::tests())
}

/// Runs `cargo test` and counts its tests.
fn tested(cargo: &mut Command) -> Result<StepResult> {
    let (success, output) = shell::tee(cargo)?;
    let count = cargo_count(&output);
    ensure!(!success || count.passed > 0, "cargo ran no test");
    Ok(StepResult::of_tests(count.and_exit(success), &output))
}

/// Checks that rustdoc has no warning.
pub(super) fn documentation() -> Result<()> {
    let mut cargo = build::cargo(&["doc", "--no-deps", "--workspace"]);
    cargo.arg(Profile::Suite.argument());
    cargo.args(["--all-features", "--exclude", "portguard-ebpf"]);
    cargo.args(["--exclude", "portguard-fuzz"]);
    shell::run(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Checks licences, versions and sources of the dependencies.
pub(super) fn dependencies() -> Result<()> {
    let mut deny = shell::command(tools::cargo_deny()?);
    shell::run(deny.args(["check", "bans", "licenses", "sources"]))
}

/// Checks the dependencies for known vulnerabilities. Nothing is counted, and the summary shows it, if their
/// database cannot be fetched.
pub(super) fn advisories() -> Result<Count> {
    let deny = tools::cargo_deny()?;
    if let Err(error) = shell::run(shell::command(&deny).args(["fetch", "db"])) {
        eprintln!(
            "xtask: WARNING: the advisory database cannot be fetched ({error:#}).\n\
             xtask: WARNING: dependencies were NOT checked for known vulnerabilities."
        );
        return Ok(Count::default());
    }
    shell::run(shell::command(&deny).args(["check", "--disable-fetch", "advisories"]))?;
    Ok(Count::one(true))
}

/// Checks the shipped policies by `portguard check`.
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
        let mut check = shell::command(Profile::Suite.program(build::PROGRAM));
        let checked = shell::run(check.arg("check").arg(&policy));
        if let Err(error) = &checked {
            eprintln!("xtask: {error:#}");
        }
        count += Count::one(checked.is_ok());
    }
    ensure!(
        count != Count::default(),
        "no policies in {}",
        directory.display()
    );
    Ok(count)
}

/// Tests the alerts and recording rules by promtool. Nothing is counted, and the summary shows it, where that cannot be
/// had.
pub(super) fn alerts() -> Result<Count> {
    let promtool = match tools::promtool() {
        Ok(promtool) => promtool,
        Err(error) => {
            eprintln!(
                "xtask: WARNING: {error:#}.\n\
                 xtask: WARNING: the alerts in dist/prometheus were NOT tested."
            );
            return Ok(Count::default());
        }
    };
    let directory = repo::path("dist/prometheus");
    for arguments in [
        ["check", "rules", "portguard.rules.yml"],
        ["test", "rules", "portguard.rules.test.yml"],
    ] {
        let mut promtool = shell::command(&promtool);
        shell::run(promtool.current_dir(&directory).args(arguments))?;
    }
    Ok(Count::one(true))
}

/// Runs the tests on the kernel of this machine.
pub(super) fn native(filter: Option<&str>) -> Result<StepResult> {
    tools::for_native()?;
    let mut itest = shell::as_root(Profile::Suite.program(build::TESTS));
    let (success, output) = shell::tee(itest.arg("native").args(filter))?;
    let count = final_count(&output).context("the tests did not finish")?;
    Ok(StepResult::of_tests(count.and_exit(success), &output))
}

#[cfg(test)]
mod tests {
    use super::ebpf_crates;

    #[test]
    fn ebpf_crates_are_found_in_a_tree() {
        let tree = "portguard-policy v0.1.0 (/a/portguard-policy)\nserde v1.0.1\n";
        assert!(ebpf_crates(tree).is_empty());
        let tree = format!("{tree}aya v0.14.0\nportguard v0.1.0 (/a/portguard)\n");
        assert_eq!(ebpf_crates(&tree), ["portguard", "aya"]);
    }
}
