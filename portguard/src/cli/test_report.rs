//! What came of a policy's tests, as text, JSON and JUnit.

use super::objects;
use anstyle::{AnsiColor, Style};
use portguard_policy::analysis::policy_tests::{Actual, TestResult};
use portguard_policy::policy::PolicyTest;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

/// What a test that does not hold expected, and what it got; begins with its place.
pub(super) fn as_text(result: &TestResult<'_>, color: bool) -> String {
    let (red, green) = if color {
        (
            Style::new().fg_color(Some(AnsiColor::Red.into())),
            Style::new().fg_color(Some(AnsiColor::Green.into())),
        )
    } else {
        (Style::new(), Style::new())
    };
    let place = &result.test.location;
    format!(
        "{place}: {}\n  {red}- {}{red:#}\n  {green}+ {}{green:#}\n{}",
        bind(result.test),
        expected(result.test),
        actual(result),
        why(result),
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

fn actual(result: &TestResult<'_>) -> String {
    match result.actual {
        None => format!("not decided: port {} is not in `protect`", result.test.port),
        Some(Actual {
            verdict,
            rule: Some(rule),
        }) => format!(
            "{} by rule {} ({})",
            verdict.as_str(),
            rule.name,
            rule.location
        ),
        Some(actual) => format!("{} by the default", actual.verdict.as_str()),
    }
}

/// Why the rule that was expected did not decide.
fn why(result: &TestResult<'_>) -> String {
    match (result.expected, result.actual) {
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
pub(super) fn as_object(result: &TestResult<'_>) -> Value {
    let test = result.test;
    json!({
        "location": objects::location(&test.location),
        "bind": objects::bind(&objects::Question {
            port: test.port,
            protocol: test.protocol,
            address: test.address,
            uid: test.user,
            euid: test.user,
            gids: &test.groups,
            setgid: None,
            owners: &[],
            cgroup: &test.cgroup,
        }),
        "passed": result.holds(),
        "expected": { "verdict": test.expect.as_str(), "rule": test.rule },
        "actual": {
            "decided": result.actual.is_some(),
            "verdict": objects::verdict(result.actual.map(|actual| actual.verdict)),
            "rule": result.actual.and_then(|actual| actual.rule).map(|rule| &rule.name),
        },
        "mismatch": result.expected.and_then(|(_, field)| field).map(|field| field.as_str()),
    })
}

/// The same for CI systems: a suite for each file.
pub(super) fn as_junit(results: &[TestResult<'_>]) -> Report {
    let mut report = Report::new("portguard test");
    let mut suites: Vec<TestSuite> = Vec::new();
    for result in results {
        let file = result.test.location.file.display().to_string();
        let mut status = TestCaseStatus::success();
        if !result.holds() {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let message = format!("expected {}, got {}", expected(result.test), actual(result));
            status
                .set_message(message)
                .set_description(as_text(result, false));
        }
        let line = result.test.location.line;
        let case = TestCase::new(format!("line {line}: {}", bind(result.test)), status);
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
