//! How many tests passed and failed, read from the output of test programs.

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    /// The result of one test.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
        }
    }

    /// This count, with a failure added where the program that counted failed without one.
    pub(crate) fn and_exit(mut self, success: bool) -> Self {
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

/// The result of a step: its count, and the output of each failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StepResult {
    pub(crate) count: Count,
    /// Some lines each, repeated below the summary.
    pub(crate) failures: Vec<String>,
}

impl From<Count> for StepResult {
    fn from(count: Count) -> Self {
        Self {
            count,
            failures: Vec::new(),
        }
    }
}

impl StepResult {
    /// A step that failed as a whole.
    pub(crate) fn failed(why: String) -> Self {
        Self {
            count: Count::one(false),
            failures: vec![why],
        }
    }

    /// The result of tests with this count and output.
    pub(crate) fn of_tests(count: Count, output: &str) -> Self {
        let failures = failures(output);
        Self { count, failures }
    }
}

/// The most lines of one failure that the summary repeats.
const LINES: usize = 30;

/// The output of failed tests: of portguard-itest from `FAIL` to the line of the next test, of `cargo test` the
/// captured output of a test, or a compiler error.
fn failures(output: &str) -> Vec<String> {
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
    failures
        .into_iter()
        .map(|lines| first_lines(&lines))
        .collect()
}

/// The first of these lines.
fn first_lines(lines: &[&str]) -> String {
    let (shown, more) = lines.split_at(lines.len().min(LINES));
    let mut text = shown.join("\n").trim_end().to_owned();
    if !more.is_empty() {
        text.push_str(&format!("\n[{} more lines]", more.len()));
    }
    text
}

/// The last lines of an output.
pub(crate) fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The last line `N passed, N failed`, with which portguard-itest ends.
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
    fn final_count_reads_the_last_sum() {
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
    fn failures_are_extracted_from_test_output() {
        let output = "ok a (0.1)\nFAIL b: expected 1, found:\n  one\n  two\nok c (0.1)\nFAIL d: no\n1 passed, 2 failed\nx\n";
        assert_eq!(
            failures(output),
            ["FAIL b: expected 1, found:\n  one\n  two", "FAIL d: no"]
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
    fn failures_and_last_lines_are_limited() {
        let long: String = (0..99).map(|number| format!("line {number}\n")).collect();
        let found = failures(&format!("FAIL a: no\n{long}"));
        assert!(
            found
                .iter()
                .all(|text| text.ends_with("line 28\n[70 more lines]"))
        );
        assert!(
            last_lines(&long).starts_with("line 69\n") && last_lines(&long).ends_with("line 98")
        );
        assert_eq!(last_lines("a\n"), "a");
    }

    #[test]
    fn cargo_count_sums_all_results() {
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
    fn and_exit_counts_a_failed_program() {
        assert_eq!(
            Count::one(true).and_exit(false),
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
            .and_exit(false)
            .failed,
            2
        );
        assert_eq!(Count::one(true).and_exit(true).failed, 0);
    }
}
