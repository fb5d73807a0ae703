//! What came of a policy's tests, as text, JSON and JUnit.

use anstyle::{AnsiColor, Style};
use portguard_policy::analysis::policy_tests::{Actual, TestResult};
use portguard_policy::policy::PolicyTest;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

/// What a test that does not hold expected, and what it got; begins with its place.
pub(super) fn as_text(outcome: &TestResult<'_>, color: bool) -> String {
    let (red, green) = if color {
        (
            Style::new().fg_color(Some(AnsiColor::Red.into())),
            Style::new().fg_color(Some(AnsiColor::Green.into())),
        )
    } else {
        (Style::new(), Style::new())
    };
    let place = &outcome.test.place;
    format!(
        "{place}: {}\n  {red}- {}{red:#}\n  {green}+ {}{green:#}\n{}",
        bind(outcome.test),
        expected(outcome.test),
        actual(outcome),
        why(outcome),
    )
}

fn bind(test: &PolicyTest) -> String {
    let address = if test.address.is_unspecified() && test.address.is_ipv4() {
        String::new()
    } else {
        format!(" at {}", test.address)
    };
    format!(
        "{} binds {}/{}{address} in /{}",
        test.user_text,
        test.protocol.as_str(),
        test.port,
        test.cgroup.join("/")
    )
}

fn expected(test: &PolicyTest) -> String {
    match &test.rule {
        Some(rule) => format!("{} by rule {rule}", test.expect.as_str()),
        None => test.expect.as_str().to_owned(),
    }
}

fn actual(outcome: &TestResult<'_>) -> String {
    match outcome.actual {
        None => format!(
            "not decided: port {} is not in `protect`",
            outcome.test.port
        ),
        Some(Actual {
            verdict,
            rule: Some(rule),
        }) => format!(
            "{} by rule {} ({})",
            verdict.as_str(),
            rule.name,
            rule.place
        ),
        Some(actual) => format!("{} by the default", actual.verdict.as_str()),
    }
}

/// Why the rule that was expected did not decide.
fn why(outcome: &TestResult<'_>) -> String {
    match (outcome.expected, outcome.actual) {
        (Some((rule, Some(field))), _) => {
            format!(
                "  rule {}: its {} do not match\n",
                rule.name,
                field.as_str()
            )
        }
        (Some((rule, None)), Some(Actual { rule: Some(_), .. })) => {
            format!("  rule {} matches too, but comes later\n", rule.name)
        }
        _ => String::new(),
    }
}

/// The same for programs.
pub(super) fn as_object(outcome: &TestResult<'_>) -> Value {
    let test = outcome.test;
    json!({
        "file": test.place.file,
        "line": test.place.line,
        "column": test.place.column,
        "bind": bind(test),
        "holds": outcome.holds(),
        "expected": { "verdict": test.expect.as_str(), "rule": test.rule },
        "actual": outcome.actual.map(|actual| json!({
            "verdict": actual.verdict.as_str(),
            "rule": actual.rule.map(|rule| &rule.name),
        })),
        "mismatch": outcome.expected.and_then(|(_, field)| field).map(|field| field.as_str()),
    })
}

/// The same for CI systems: a suite for each file.
pub(super) fn as_junit(outcomes: &[TestResult<'_>]) -> Report {
    let mut report = Report::new("portguard test");
    let mut suites: Vec<TestSuite> = Vec::new();
    for outcome in outcomes {
        let file = outcome.test.place.file.display().to_string();
        let mut status = TestCaseStatus::success();
        if !outcome.holds() {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let message = format!(
                "expected {}, got {}",
                expected(outcome.test),
                actual(outcome)
            );
            status
                .set_message(message)
                .set_description(as_text(outcome, false));
        }
        let line = outcome.test.place.line;
        let case = TestCase::new(format!("line {line}: {}", bind(outcome.test)), status);
        if suites
            .last()
            .is_none_or(|suite| suite.name.as_str() != file)
        {
            suites.push(TestSuite::new(file));
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(case);
        }
    }
    report.add_test_suites(suites);
    report
}
