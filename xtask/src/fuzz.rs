//! The verb `fuzz`: coverage-guided random input for the parsers of untrusted bytes.

use crate::build::{self, Profile};
use crate::results::{Count, StepResult};
use crate::{repo, shell, tools};
use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::{self, ScopedJoinHandle};

/// A target and the arguments of libFuzzer for it.
struct Target {
    name: &'static str,
    /// Its name in fuzz/Cargo.toml.
    program: &'static str,
    arguments: &'static [&'static str],
}

/// The targets of fuzz/Cargo.toml.
const TARGETS: &[Target] = &[
    Target {
        name: "policy",
        program: "fuzz-policy",
        arguments: &["-max_len=8192", "-dict=fuzz/policy.dict"],
    },
    Target {
        name: "event",
        program: "fuzz-event",
        // Three records of a cgroup path.
        arguments: &["-max_len=12400"],
    },
    Target {
        name: "btf",
        program: "fuzz-btf",
        arguments: &["-max_len=8192"],
    },
];

/// The package of the targets.
const PACKAGE: &str = "portguard-fuzz";

/// An input that takes longer than this, in seconds, is a hang.
const TIMEOUT: &str = "-timeout=10";

/// How long each target runs in `cargo xtask test`, in seconds.
const SHORT: u32 = 10;

/// The verb `fuzz`: one target, or all.
pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<ExitCode> {
    let targets = selected(target)?;
    build::everything(Profile::Release)?;
    let result = all(&targets, Profile::Release, seconds)?;
    Ok(if result.count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs each target for a short time. Needs the programs that are built.
pub(crate) fn short() -> Result<StepResult> {
    all(&selected(None)?, Profile::Suite, SHORT)
}

/// The build of the targets, with coverage in the crates of this repository and no other. Without a sanitizer the stable
/// compiler suffices, and the code under test has hardly any `unsafe`.
fn instrumented(profile: Profile) -> Command {
    let mut cargo = build::cargo(&["build", &profile.argument(), "-p", PACKAGE, "--bins"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", repo::path("fuzz/instrument.sh"));
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

/// Builds all targets and runs some, all at once.
fn all(targets: &[&'static Target], profile: Profile, seconds: u32) -> Result<StepResult> {
    tools::for_fuzzing()?;
    let seeds = repo::path("target/fuzz-seeds");
    let mut write_seeds = shell::command(profile.program(build::TESTS));
    write_seeds.arg("fuzz-seeds").arg(&seeds);
    shell::run(write_seeds.arg(repo::path("policies")))?;
    shell::run(&mut instrumented(profile))?;
    let mut result = StepResult::default();
    let run = |target: &Target| one(target, profile, &seeds.join(target.name), seconds);
    let done = thread::scope(|scope| {
        let spawn = |&target| (target, scope.spawn(move || run(target)));
        let running: Vec<(&Target, _)> = targets.iter().map(spawn).collect();
        let panicked = |_| Err(anyhow!("the thread that ran it panicked"));
        let end = |(target, thread): (_, ScopedJoinHandle<'_, Result<()>>)| {
            (target, thread.join().unwrap_or_else(panicked))
        };
        running.into_iter().map(end).collect::<Vec<_>>()
    });
    for (target, done) in done {
        if let Err(error) = &done {
            let failure = format!(
                "{error:#}\nthe input is in fuzz/artifacts/{0}; to reproduce: {1} INPUT",
                target.name,
                profile.program(target.program).display(),
            );
            eprintln!("xtask: {failure}");
            result.failures.push(failure);
        }
        result.count += Count::one(done.is_ok());
    }
    Ok(result)
}

/// Runs one target. What it learns stays in fuzz/corpus; the seeds are only read.
fn one(target: &Target, profile: Profile, seeds: &Path, seconds: u32) -> Result<()> {
    let corpus = directory("corpus", target)?;
    // libFuzzer takes it for the beginning of file names.
    let mut artifacts = directory("artifacts", target)?.into_os_string();
    artifacts.push("/");
    let mut prefix = std::ffi::OsString::from("-artifact_prefix=");
    prefix.push(&artifacts);
    let mut fuzz = shell::command(profile.program(target.program));
    fuzz.current_dir(repo::root())
        .arg(corpus)
        .arg(seeds)
        .arg(prefix);
    fuzz.args(target.arguments);
    fuzz.args([TIMEOUT, "-print_final_stats=1"]);
    fuzz.arg(format!("-max_total_time={seconds}"));
    shell::run(&mut fuzz)
}

/// The directory of a target in fuzz/`kind`.
fn directory(kind: &str, target: &Target) -> Result<PathBuf> {
    let path = repo::path("fuzz").join(kind).join(target.name);
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
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
            assert!(manifest.contains(&format!("name = \"{}\"\n", target.program)));
        }
    }
}
