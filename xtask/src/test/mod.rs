//! The verb `test`: every step runs, whatever became of those before, and is summed up at the end.

mod steps;

use crate::report::{self, Count, Outcome};
use crate::vm::kernel;
use crate::{build, fuzz, tools, verify, vm};
use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::Instant;

/// The kernels that are booted with systemd too: the oldest, that of today, the newest, each with the systemd
/// of its time. Guests with these also have the tests of a daemon's life, where their LSM is BPF's.
const SYSTEMD: [&str; 3] = ["5.10", "6.12", "7.2"];

/// Which tests to run.
pub(crate) struct Selection {
    /// Guests with these kernels.
    pub(crate) vm: Vec<String>,
    /// Those on this machine's own kernel.
    pub(crate) native: bool,
    /// Only tests with such a name.
    pub(crate) filter: Option<String>,
    /// The guests, of every kernel where none is named.
    pub(crate) guests: bool,
}

impl Selection {
    /// Nothing in particular was asked for, so everything is.
    fn everything(&self) -> bool {
        self.vm.is_empty() && !self.native && !self.guests
    }
}

/// One line of the summary.
struct Step {
    name: String,
    outcome: Outcome,
    seconds: f64,
}

/// The steps so far.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    /// Runs a step; an error is a failure of it, and is said at once.
    fn run<T: Into<Outcome>>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> bool {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = step().map(Into::into);
        self.ended(name, outcome, started.elapsed().as_secs_f64())
    }

    /// The same for what only succeeds or fails.
    fn plain(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> bool {
        self.run(name, || step().map(|()| Count::one(true)))
    }

    /// A step that was run: whether all of it succeeded.
    fn ended(&mut self, name: &str, outcome: Result<Outcome>, seconds: f64) -> bool {
        let outcome = outcome.unwrap_or_else(|error| {
            eprintln!("xtask: {name}: {error:#}");
            Outcome::failed(format!("{error:#}"))
        });
        let succeeded = outcome.count.failed == 0;
        self.0.push(Step {
            name: name.to_owned(),
            outcome,
            seconds,
        });
        succeeded
    }

    /// Prints the summary, what was said of each failure, and the last line.
    fn summary(&self) -> ExitCode {
        let mut table = report::table(&["step", "result", "seconds"]);
        let mut sum = Count::default();
        for step in &self.0 {
            let Count { passed, failed } = step.outcome.count;
            let result = match (passed, failed) {
                (0, 0) => "NOTHING CHECKED".to_owned(),
                (_, 0) => format!("ok, {passed} passed"),
                _ => format!("FAILED, {passed} passed, {failed} failed"),
            };
            table.add_row([step.name.clone(), result, format!("{:.0}", step.seconds)]);
            sum += step.outcome.count;
        }
        println!("\n{table}");
        for step in self.0.iter().filter(|step| step.outcome.count.failed > 0) {
            for failure in &step.outcome.failures {
                println!("\n== {} failed:\n{failure}", step.name);
            }
        }
        println!("{} passed, {} failed", sum.passed, sum.failed);
        if sum.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests selected.
pub(crate) fn run(selection: &Selection) -> Result<ExitCode> {
    let series = kernel::selected(&selection.vm)?;
    let (all, filter) = (selection.everything(), selection.filter.as_deref());
    let mut steps = Steps::default();
    if all {
        steps.plain("formatting", steps::formatting);
    }
    let built = steps.plain("build", build::everything);
    if all {
        steps.plain("clippy", steps::clippy);
        steps.run("cargo test", steps::cargo_test);
        steps.plain("dependencies", steps::dependencies);
        steps.run("advisories", steps::advisories);
        steps.run("policies", || if_built(built, steps::policies));
        steps.run("fuzz", || if_built(built, fuzz::short));
    }
    if all || selection.native {
        steps.run("native", || if_built(built, || steps::native(filter)));
    }
    if all || selection.guests || !selection.vm.is_empty() {
        guests(&mut steps, &series, built, filter);
    }
    if all {
        steps.run("verify", || if_built(built, || verify::counts(&series)));
    }
    Ok(steps.summary())
}

/// Runs a step that is about what was built, if that is of now.
fn if_built<T>(built: bool, step: impl FnOnce() -> Result<T>) -> Result<T> {
    if !built {
        bail!("not run, since the build failed");
    }
    step()
}

/// The guests to boot: each kernel twice, with the BPF LSM and without, and some with systemd. A filter that
/// begins with `systemd` is for those alone, any other for the rest.
fn boots(series: &[&str], filter: Option<&str>) -> Vec<vm::GuestSpec> {
    let of_systemd = filter.is_some_and(|filter| filter.starts_with("systemd"));
    let mut boots = Vec::new();
    for series in series {
        for (name, bpf_lsm) in [("lsm", true), ("no-lsm", false)] {
            let mut boot = vm::GuestSpec::new(series, name, &["guest"]);
            boot.bpf_lsm = bpf_lsm;
            boot.arguments
                .extend((!bpf_lsm).then(|| "--no-bpf-lsm".to_owned()));
            boots.extend((!of_systemd).then_some(boot));
        }
        if SYSTEMD.contains(series) {
            let mut boot = vm::GuestSpec::new(series, "systemd", &["systemd"]);
            boot.systemd = true;
            boots.extend((of_systemd || filter.is_none()).then_some(boot));
        }
    }
    for boot in &mut boots {
        boot.arguments.extend(filter.map(str::to_owned));
    }
    // Those that take longest come first, so that none is left to run alone at the end.
    boots.sort_by_key(|boot| boot.name != "lsm" || !SYSTEMD.contains(&boot.series.as_str()));
    boots
}

/// Boots the guests that the filter leaves, and counts what their tests say.
fn guests(steps: &mut Steps, series: &[&str], built: bool, filter: Option<&str>) {
    let boots = boots(series, filter);
    steps.plain("kernels", || {
        tools::for_guests()?;
        if_built(built, || {
            boots
                .iter()
                .try_for_each(|boot| vm::prepare(&boot.series, boot.systemd).map(|_| ()))
        })
    });
    let ended = if built {
        vm::boot_all(&boots)
    } else {
        Vec::new()
    };
    let mut ended = ended.into_iter();
    for boot in &boots {
        let result = ended
            .next()
            .unwrap_or_else(|| Err(anyhow::anyhow!("not booted")));
        let seconds = result.as_ref().map_or(0.0, |ended| ended.seconds);
        let name = format!("guest {} {}", boot.series, boot.name);
        steps.ended(&name, result.map(|ended| told(&ended)), seconds);
    }
}

/// What a guest's tests said; what its console showed last where they came to no end.
fn told(ended: &vm::GuestResult) -> Outcome {
    let mut outcome = match report::final_count(&ended.output) {
        Some(count) => Outcome::told(count.ended(ended.failure.is_none()), &ended.output),
        None => Outcome::failed(format!(
            "{}\nthe tests gave no sum",
            report::end(&ended.output)
        )),
    };
    if outcome.count.failed > 0 {
        outcome.failures.extend(ended.failure.clone());
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_the_kind_of_guest() {
        let named = |filter| -> Vec<String> {
            let boots = boots(&["6.1", "6.12"], filter);
            boots.into_iter().map(|boot| boot.name).collect()
        };
        assert_eq!(named(None), ["lsm", "lsm", "no-lsm", "no-lsm", "systemd"]);
        assert_eq!(named(Some("storm")), ["lsm", "lsm", "no-lsm", "no-lsm"]);
        assert_eq!(named(Some("systemd_kill")), ["systemd"]);
    }

    #[test]
    fn a_guest_that_died_says_what_it_said_last() {
        let ended = |output: &str, failure: Option<&str>| {
            told(&vm::GuestResult {
                output: output.to_owned(),
                failure: failure.map(str::to_owned),
                seconds: 1.0,
            })
        };
        let good = ended("ok a\n1 passed, 0 failed\n", None);
        assert_eq!(good, Count::one(true).into());
        let failed = ended(
            "FAIL a: no\n0 passed, 1 failed\n",
            Some("its command ended with 1"),
        );
        assert_eq!(failed.failures, ["FAIL a: no", "its command ended with 1"]);
        let died = ended("ok a\nok b\nBUG: bad\n", Some("Kernel panic"));
        assert_eq!(
            died.failures,
            [
                "ok a\nok b\nBUG: bad\nthe tests gave no sum",
                "Kernel panic"
            ]
        );
        assert_eq!(died.count, Count::one(false));
    }
}
