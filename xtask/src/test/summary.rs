//! The steps of a test run and their summary.

use crate::report;
use crate::results::{Count, StepResult};
use anyhow::Result;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A line of the summary.
struct Step {
    name: String,
    result: StepResult,
    /// None for a step that ran inside others.
    seconds: Option<f64>,
}

/// The steps so far, which threads may add to at once.
pub(super) struct Steps {
    steps: Mutex<Vec<Step>>,
    started: Instant,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self {
            steps: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// Runs a step. An error is printed at once and counts as its failure.
    pub(super) fn run<T: Into<StepResult>>(
        &self,
        name: &str,
        step: impl FnOnce() -> Result<T>,
    ) -> bool {
        println!("\n== {name}");
        let started = Instant::now();
        let result = step().map(Into::into);
        self.add(name, result, Some(started.elapsed().as_secs_f64()))
    }

    /// Runs a step that only succeeds or fails.
    pub(super) fn plain(&self, name: &str, step: impl FnOnce() -> Result<()>) -> bool {
        self.run(name, || step().map(|()| Count::one(true)))
    }

    /// Adds a step that has run; returns whether it succeeded.
    pub(super) fn add(&self, name: &str, result: Result<StepResult>, seconds: Option<f64>) -> bool {
        let result = result.unwrap_or_else(|error| {
            eprintln!("xtask: {name}: {error:#}");
            StepResult::failed(format!("{error:#}"))
        });
        let succeeded = result.count.failed == 0;
        self.lock().push(Step {
            name: name.to_owned(),
            result,
            seconds,
        });
        succeeded
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the summary, the output of each failure and the final count.
    pub(super) fn finish(&self) -> ExitCode {
        let mut table = report::table(&["step", "result", "time"]);
        let mut sum = Count::default();
        let steps = self.lock();
        for step in steps.iter() {
            let time = step.seconds.map_or_else(|| "-".to_owned(), minutes);
            table.add_row([step.name.clone(), cell(step.result.count), time]);
            sum += step.result.count;
        }
        let total = self.started.elapsed().as_secs_f64();
        table.add_row(["all".to_owned(), cell(sum), minutes(total)]);
        println!("\n{table}");
        let failed = |step: &&Step| step.result.count.failed > 0;
        for step in steps.iter().filter(failed) {
            for failure in &step.result.failures {
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

/// A count as the summary shows it.
fn cell(count: Count) -> String {
    match (count.passed, count.failed) {
        (0, 0) => "NOTHING CHECKED".to_owned(),
        (passed, 0) => format!("ok, {passed} passed"),
        (passed, failed) => format!("FAILED, {passed} passed, {failed} failed"),
    }
}

/// A duration as `1:05`.
fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_seconds_are_shown() {
        assert_eq!(minutes(0.4), "0:00");
        assert_eq!(minutes(65.2), "1:05");
        assert_eq!(minutes(3600.0), "60:00");
    }

    #[test]
    fn cell_shows_a_step_that_checked_nothing() {
        assert_eq!(cell(Count::default()), "NOTHING CHECKED");
        assert_eq!(cell(Count::one(true)), "ok, 1 passed");
        assert_eq!(cell(Count::one(false)), "FAILED, 0 passed, 1 failed");
    }

    #[test]
    fn error_of_a_step_is_its_failure() {
        let steps = Steps::new();
        assert!(steps.plain("good", || Ok(())));
        assert!(!steps.plain("bad", || anyhow::bail!("no such file")));
        assert_eq!(steps.lock()[1].result.failures, ["no such file"]);
    }
}
