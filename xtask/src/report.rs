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

/// What became of a step: its count, and what it said of each failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) count: Count,
    /// Some lines each, for the end of a long output, where they are looked for.
    pub(crate) failures: Vec<String>,
}

impl From<Count> for Outcome {
    fn from(count: Count) -> Self {
        Self {
            count,
            failures: Vec::new(),
        }
    }
}

impl Outcome {
    /// A step that failed as a whole.
    pub(crate) fn failed(why: String) -> Self {
        Self {
            count: Count::one(false),
            failures: vec![why],
        }
    }

    /// What `count` tests said that printed `output`.
    pub(crate) fn told(count: Count, output: &str) -> Self {
        let failures = failures(output);
        Self { count, failures }
    }
}

/// More lines than these of one failure are left where they were printed first.
const LINES: usize = 30;

/// What is printed of a failed test: by portguard-itest from `FAIL` to the next test's line, by `cargo test`
/// what it shows of a test's output, or the compiler's error.
pub(crate) fn failures(output: &str) -> Vec<String> {
    let begins = |line: &str| {
        line.starts_with("FAIL ")
            || (line.starts_with("---- ") && line.ends_with(" stdout ----"))
            || line.starts_with("error[")
    };
    let ends = |line: &str| {
        let another = ["ok ", "n/a ", "failures:", "error: could not compile"];
        another.iter().any(|start| line.starts_with(start)) || final_count(line).is_some()
    };
    let mut failures: Vec<Vec<&str>> = Vec::new();
    let mut within = false;
    for line in output.lines() {
        if begins(line) {
            failures.push(Vec::new());
            within = true;
        } else if ends(line) {
            within = false;
        }
        if let (true, Some(failure)) = (within, failures.last_mut()) {
            failure.push(line);
        }
    }
    failures.into_iter().map(|lines| some(&lines)).collect()
}

/// The first lines of these.
fn some(lines: &[&str]) -> String {
    let (shown, more) = lines.split_at(lines.len().min(LINES));
    let mut text = shown.join("\n").trim_end().to_owned();
    if !more.is_empty() {
        text.push_str(&format!("\n[and {} lines]", more.len()));
    }
    text
}

/// The last lines of an output that ended in the middle.
pub(crate) fn end(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
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
    fn failures_are_taken_out_of_what_tests_print() {
        let output = "ok a (0.1)\nFAIL b: no, it said:\n  one\n  two\nok c (0.1)\nFAIL d: no\n1 passed, 2 failed\nx\n";
        assert_eq!(
            failures(output),
            ["FAIL b: no, it said:\n  one\n  two", "FAIL d: no"]
        );
        let output = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nthread 'a' panicked at b.rs:1:\nno\n\n\n\
                      failures:\n    a\n\ntest result: FAILED. 0 passed; 1 failed\n";
        assert_eq!(
            failures(output),
            ["---- a stdout ----\nthread 'a' panicked at b.rs:1:\nno"]
        );
        assert!(failures("ok a (0.1)\n1 passed, 0 failed\n").is_empty());
    }

    #[test]
    fn of_a_long_output_some_lines_are_shown() {
        let long: String = (0..99).map(|number| format!("line {number}\n")).collect();
        let found = failures(&format!("FAIL a: no\n{long}"));
        assert!(
            found
                .iter()
                .all(|text| text.ends_with("line 28\n[and 70 lines]"))
        );
        assert!(end(&long).starts_with("line 69\n") && end(&long).ends_with("line 98"));
        assert_eq!(end("a\n"), "a");
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
