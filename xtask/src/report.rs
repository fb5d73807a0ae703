//! What the verbs show and count: tables, progress, and the result lines of tests.

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A table that fits the terminal.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// A line on stderr that says what is going on and for how long; nothing where that is no terminal.
pub(crate) fn progress(what: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    /// One test's result.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
        }
    }

    /// This count, but with a failure where the program that counted did not succeed.
    pub(crate) fn ended(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The last line `N passed, N failed` of a program's output, as portguard-itest ends.
pub(crate) fn final_count(output: &str) -> Option<Count> {
    output.lines().rev().find_map(|line| {
        let (passed, failed) = line
            .trim()
            .strip_suffix(" failed")?
            .split_once(" passed, ")?;
        Some(Count {
            passed: passed.parse().ok()?,
            failed: failed.parse().ok()?,
        })
    })
}

/// The sum of the lines `test result: ok. N passed; N failed; ...` that `cargo test` prints.
pub(crate) fn cargo_count(output: &str) -> Count {
    let mut sum = Count::default();
    for line in output.lines() {
        let Some((_, counts)) = line.split_once("test result: ") else {
            continue;
        };
        let number = |what: &str| {
            let before = counts.split(what).next()?.rsplit([' ', ';', '.']).next()?;
            before.parse::<u64>().ok()
        };
        sum.passed += number(" passed").unwrap_or(0);
        sum.failed += number(" failed").unwrap_or(0);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_tests_is_counted() {
        let output = "ok a\n1 passed, 0 failed\r\nFAIL b\n12 passed, 3 failed\r\nbye\n";
        assert_eq!(
            final_count(output),
            Some(Count {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(final_count("passed, failed"), None);
    }

    #[test]
    fn cargos_results_are_summed() {
        let output = "test a ... ok\ntest result: ok. 12 passed; 0 failed; 1 ignored; finished in 0.1s\n\
                      test result: FAILED. 3 passed; 2 failed; 0 ignored\n";
        assert_eq!(
            cargo_count(output),
            Count {
                passed: 15,
                failed: 2
            }
        );
    }

    #[test]
    fn a_program_that_ended_badly_counts_as_a_failure() {
        assert_eq!(
            Count::one(true).ended(false),
            Count {
                passed: 1,
                failed: 1
            }
        );
        assert_eq!(
            Count {
                passed: 1,
                failed: 2
            }
            .ended(false)
            .failed,
            2
        );
        assert_eq!(Count::one(true).ended(true).failed, 0);
    }
}
