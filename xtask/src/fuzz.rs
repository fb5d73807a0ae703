//! The verb `fuzz`: coverage-guided random input for the parsers of untrusted bytes.

use crate::results::{Count, StepResult};
use crate::{build, repo, shell, tools};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A target and the arguments of libFuzzer for it.
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
        // Three records of a cgroup path.
        arguments: &["-max_len=12400"],
    },
    Target {
        name: "btf",
        arguments: &["-max_len=8192"],
    },
];

/// An input that takes longer than this, in seconds, is a hang.
const TIMEOUT: &str = "-timeout=10";

/// How long each target runs in `cargo xtask test`, in seconds.
const SHORT: u32 = 10;

/// The verb `fuzz`: one target, or all.
pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<ExitCode> {
    let targets = selected(target)?;
    build::everything()?;
    let result = all(&targets, seconds)?;
    Ok(if result.count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks the code of the targets and runs each for a short time. Needs the eBPF object.
pub(crate) fn short() -> Result<StepResult> {
    let targets = selected(None)?;
    shell::run(without_libfuzzer("clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
    all(&targets, SHORT)
}

/// cargo for the code of the targets, without the C++ of libFuzzer, which only running them needs. Dependencies are
/// those already built in target: both lock files have the same versions, and the profiles are the same.
fn without_libfuzzer(verb: &str) -> Command {
    let mut cargo = build::cargo(&[verb, "--release", "--no-default-features"]);
    cargo.args(["--manifest-path", "fuzz/Cargo.toml", "--target-dir"]);
    cargo.arg(repo::path("target"));
    cargo
}

/// The target named, or all.
fn selected(target: Option<&str>) -> Result<Vec<&'static Target>> {
    let is_selected = |of: &&Target| target.is_none_or(|name| name == of.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(is_selected).collect();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    ensure!(
        !targets.is_empty(),
        "unknown target {}; expected one of {}",
        target.unwrap_or_default(),
        names.join(", ")
    );
    Ok(targets)
}

/// Builds all targets and runs some, one after the other.
fn all(targets: &[&Target], seconds: u32) -> Result<StepResult> {
    let cargo_fuzz = tools::cargo_fuzz()?;
    let seeds = repo::path("target/fuzz-seeds");
    let mut write_seeds = without_libfuzzer("run");
    write_seeds.args(["--quiet", "--example", "seeds", "--"]);
    shell::run(write_seeds.arg(&seeds))?;
    shell::run(&mut fuzz(&cargo_fuzz, "build"))?;
    let mut result = StepResult::default();
    for target in targets {
        let done = one(&cargo_fuzz, target, &seeds.join(target.name), seconds);
        if let Err(error) = &done {
            let failure = format!(
                "{error:#}\nthe input is in fuzz/artifacts/{0}; to reproduce: {1} run {FLAGS} {0} INPUT",
                target.name,
                cargo_fuzz.display(),
                FLAGS = FLAGS.join(" ")
            );
            eprintln!("xtask: {failure}");
            result.failures.push(failure);
        }
        result.count += Count::one(done.is_ok());
    }
    Ok(result)
}

/// How the targets are built. Without a sanitizer the stable compiler suffices, and the code under test has hardly
/// any `unsafe`. The dev profile of fuzz/Cargo.toml optimises what is fuzzed and nothing else.
const FLAGS: [&str; 3] = ["--dev", "--sanitizer", "none"];

/// cargo-fuzz with these flags.
fn fuzz(cargo_fuzz: &Path, verb: &str) -> Command {
    let mut fuzz = shell::command(cargo_fuzz);
    fuzz.arg(verb).args(FLAGS);
    fuzz
}

/// Runs one target. What it learns stays in fuzz/corpus; the seeds are only read.
fn one(cargo_fuzz: &Path, target: &Target, seeds: &Path, seconds: u32) -> Result<()> {
    let corpus: PathBuf = repo::path("fuzz/corpus").join(target.name);
    std::fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
    let mut fuzz = fuzz(cargo_fuzz, "run");
    fuzz.arg(target.name).arg(&corpus).arg(seeds);
    fuzz.arg("--").args(target.arguments);
    fuzz.args([TIMEOUT, "-print_final_stats=1"]);
    fuzz.arg(format!("-max_total_time={seconds}"));
    shell::run(&mut fuzz)
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, selected};
    use crate::repo;

    #[test]
    fn selected_rejects_an_unknown_target() {
        assert_eq!(selected(None).map(|found| found.len()).ok(), Some(3));
        assert_eq!(selected(Some("btf")).map(|found| found.len()).ok(), Some(1));
        let error = selected(Some("x")).err().map(|error| error.to_string());
        let expected = "unknown target x; expected one of policy, event, btf";
        assert_eq!(error.as_deref(), Some(expected));
    }

    #[test]
    fn targets_are_those_of_the_manifest() {
        let manifest = std::fs::read_to_string(repo::path("fuzz/Cargo.toml")).expect("a manifest");
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        for target in TARGETS {
            assert!(manifest.contains(&format!("name = \"{}\"\n", target.name)));
        }
    }
}
