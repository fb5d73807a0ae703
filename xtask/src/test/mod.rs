//! The verb `test`: every step runs, whatever became of those before, and is summed up at the end.

mod steps;

use crate::report::{self, Count};
use crate::vm::kernel;
use crate::{build, fuzz, setup, verify, vm};
use anyhow::{Context as _, Result, bail};
use std::process::ExitCode;
use std::time::Instant;

/// The kernels that are booted with systemd too: the oldest, that of today, the newest, each with the systemd
/// of its time.
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
    count: Count,
    seconds: f64,
}

/// The steps so far.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    /// Runs a step; an error is a failure of it, and is said at once.
    fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Count>) -> bool {
        println!("\n== {name}");
        let started = Instant::now();
        let count = step().unwrap_or_else(|error| {
            eprintln!("xtask: {name}: {error:#}");
            Count::one(false)
        });
        self.0.push(Step {
            name: name.to_owned(),
            count,
            seconds: started.elapsed().as_secs_f64(),
        });
        count.failed == 0
    }

    /// The same for what only succeeds or fails.
    fn plain(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> bool {
        self.run(name, || step().map(|()| Count::one(true)))
    }

    /// Prints the summary, and its last line.
    fn summary(&self) -> ExitCode {
        let mut table = report::table(&["step", "result", "seconds"]);
        let mut sum = Count::default();
        for step in &self.0 {
            let Count { passed, failed } = step.count;
            let result = match (passed, failed) {
                (0, 0) => "NOTHING CHECKED".to_owned(),
                (_, 0) => format!("ok, {passed} passed"),
                _ => format!("FAILED, {passed} passed, {failed} failed"),
            };
            table.add_row([step.name.clone(), result, format!("{:.0}", step.seconds)]);
            sum += step.count;
        }
        println!("\n{table}");
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
        let of_verify = Instant::now();
        let counts = if_built(built, || verify::counts(&series));
        let seconds = of_verify.elapsed().as_secs_f64();
        let count = counts.unwrap_or_else(|error| {
            eprintln!("xtask: verify: {error:#}");
            Count::one(false)
        });
        steps.0.push(Step {
            name: "verify".to_owned(),
            count,
            seconds,
        });
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
fn boots(series: &[&str], filter: Option<&str>) -> Vec<vm::Boot> {
    let of_systemd = filter.is_some_and(|filter| filter.starts_with("systemd"));
    let mut boots = Vec::new();
    for series in series {
        for (name, bpf_lsm) in [("lsm", true), ("no-lsm", false)] {
            let mut boot = vm::Boot::new(series, name, &["guest"]);
            boot.bpf_lsm = bpf_lsm;
            boot.arguments
                .extend((!bpf_lsm).then(|| "--no-bpf-lsm".to_owned()));
            boots.extend((!of_systemd).then_some(boot));
        }
        if SYSTEMD.contains(series) {
            let mut boot = vm::Boot::new(series, "systemd", &["systemd"]);
            boot.systemd = true;
            boots.extend((of_systemd || filter.is_none()).then_some(boot));
        }
    }
    for boot in &mut boots {
        boot.arguments.extend(filter.map(str::to_owned));
    }
    boots
}

/// Boots the guests that the filter leaves, and counts what their tests say.
fn guests(steps: &mut Steps, series: &[&str], built: bool, filter: Option<&str>) {
    let boots = boots(series, filter);
    steps.plain("kernels", || {
        setup::for_guests()?;
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
        let count = result.and_then(|ended| {
            let count = report::final_count(&ended.output).context("the tests gave no sum")?;
            Ok(count.ended(ended.failure.is_none()))
        });
        let count = count.unwrap_or_else(|error| {
            eprintln!("xtask: guest {} {}: {error:#}", boot.series, boot.name);
            Count::one(false)
        });
        steps.0.push(Step {
            name: format!("guest {} {}", boot.series, boot.name),
            count,
            seconds,
        });
    }
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
        assert_eq!(named(None), ["lsm", "no-lsm", "lsm", "no-lsm", "systemd"]);
        assert_eq!(named(Some("storm")), ["lsm", "no-lsm", "lsm", "no-lsm"]);
        assert_eq!(named(Some("systemd_kill")), ["systemd"]);
    }
}
