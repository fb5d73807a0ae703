//! The verb `fuzz`: random input, steered by coverage, for what reads bytes that others wrote.

use crate::report::{Count, Outcome};
use crate::{build, repo, shell, tools};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A target and libFuzzer's arguments for it.
struct Target {
    name: &'static str,
    arguments: &'static [&'static str],
}

/// The targets of fuzz/Cargo.toml.
const TARGETS: &[Target] = &[
    Target {
        name: "policy",
        arguments: &["-max_len=8192", "-dict=fuzz/policy.dict"],
    },
    Target {
        name: "event",
        // Three records of a cgroup's path.
        arguments: &["-max_len=12400"],
    },
    Target {
        name: "btf",
        arguments: &["-max_len=8192"],
    },
];

/// A slower input than this, in seconds, is a hang.
const PATIENCE: &str = "-timeout=10";

/// How long each target runs in `cargo xtask test`, in seconds.
const SHORT: u32 = 10;

/// The verb `fuzz`: this target, or every one.
pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<ExitCode> {
    let targets = selected(target)?;
    build::everything()?;
    let outcome = all(&targets, seconds)?;
    Ok(if outcome.count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every target for a short while, after the programs were built; the targets' own code is checked too.
pub(crate) fn short() -> Result<Outcome> {
    let targets = selected(None)?;
    tools::cargo_fuzz()?;
    shell::run(beside("clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
    all(&targets, SHORT)
}

/// cargo on the targets' workspace, which finds its dependencies where the main one's were built: both lock files
/// have the same versions, and both profiles are the same.
fn beside(verb: &str) -> Command {
    let mut cargo = shell::cargo(&[verb, "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    cargo.arg("--target-dir").arg(repo::path("target"));
    cargo
}

/// The targets asked for.
fn selected(target: Option<&str>) -> Result<Vec<&'static Target>> {
    let wanted = |of: &&Target| target.is_none_or(|name| name == of.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    ensure!(
        !targets.is_empty(),
        "there is no target {}: it is one of {}",
        target.unwrap_or_default(),
        names.join(", ")
    );
    Ok(targets)
}

/// Runs targets one after the other.
fn all(targets: &[&Target], seconds: u32) -> Result<Outcome> {
    let cargo_fuzz = tools::cargo_fuzz()?;
    let seeds = repo::path("target/fuzz-seeds");
    shell::run(
        beside("run")
            .args(["--quiet", "--example", "seeds", "--"])
            .arg(&seeds),
    )?;
    let mut outcome = Outcome::default();
    for target in targets {
        let done = one(&cargo_fuzz, target, &seeds.join(target.name), seconds);
        if let Err(error) = &done {
            let failure = format!(
                "{error:#}\nthe input is in fuzz/artifacts/{0}; again: {1} run --sanitizer none {0} INPUT",
                target.name,
                cargo_fuzz.display()
            );
            eprintln!("xtask: {failure}");
            outcome.failures.push(failure);
        }
        outcome.count += Count::one(done.is_ok());
    }
    Ok(outcome)
}

/// Runs one target. What it learns stays in fuzz/corpus; seeds are only read.
fn one(cargo_fuzz: &Path, target: &Target, seeds: &Path, seconds: u32) -> Result<()> {
    let corpus: PathBuf = repo::path("fuzz/corpus").join(target.name);
    std::fs::create_dir_all(&corpus).with_context(|| format!("making {}", corpus.display()))?;
    let mut fuzz = shell::command(cargo_fuzz);
    // Without a sanitizer the stable compiler does, and portguard has next to no unsafe code here.
    fuzz.args(["run", "--sanitizer", "none", target.name]);
    fuzz.arg(&corpus)
        .arg(seeds)
        .arg("--")
        .args(target.arguments);
    fuzz.args([PATIENCE, "-print_final_stats=1"]);
    fuzz.arg(format!("-max_total_time={seconds}"));
    shell::run(&mut fuzz)
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, selected};

    #[test]
    fn a_target_is_one_of_those_that_there_are() {
        assert_eq!(selected(None).map(|found| found.len()).ok(), Some(3));
        assert_eq!(selected(Some("btf")).map(|found| found.len()).ok(), Some(1));
        let error = selected(Some("x")).err().map(|error| error.to_string());
        let expected = "there is no target x: it is one of policy, event, btf";
        assert_eq!(error.as_deref(), Some(expected));
    }

    #[test]
    fn every_target_is_in_the_manifest() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        for target in TARGETS {
            assert!(manifest.contains(&format!("name = \"{}\"\n", target.name)));
        }
    }
}
