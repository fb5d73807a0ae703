//! The tests of a policy: what it must decide, and what it decides.

use crate::analysis::explain::first_mismatch;
use crate::compile::{Bind, CompileError, Tables};
use crate::policy::{Field, Policy, PolicyTest, Rule};
use portguard_common::Verdict;

/// The result of a test.
#[derive(Clone, Debug)]
pub struct TestResult<'a> {
    /// The test.
    pub test: &'a PolicyTest,
    /// What the policy decides; `None` where the port is not protected.
    pub actual: Option<Actual<'a>>,
    /// The rule that was expected, where another one decides, and the first of its fields that does not match;
    /// no field where an earlier rule decides.
    pub expected: Option<(&'a Rule, Option<Field>)>,
}

/// What the policy decides.
#[derive(Clone, Copy, Debug)]
pub struct Actual<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The deciding rule; `None` for the default.
    pub rule: Option<&'a Rule>,
}

impl TestResult<'_> {
    /// Whether the test passes.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.expected.is_none()
            && self
                .actual
                .is_some_and(|actual| actual.verdict == self.test.expect)
    }
}

/// Runs all tests of a policy, in their order.
///
/// # Errors
/// Where a single field of a rule does not compile, which cannot be where the whole policy does.
pub fn run_policy_tests<'a>(
    policy: &'a Policy,
    tables: &Tables,
) -> Result<Vec<TestResult<'a>>, CompileError> {
    let tests = policy.tests.iter();
    tests.map(|test| result(policy, tables, test)).collect()
}

fn result<'a>(
    policy: &'a Policy,
    tables: &Tables,
    test: &'a PolicyTest,
) -> Result<TestResult<'a>, CompileError> {
    let cgroup: Vec<&str> = test.cgroup.iter().map(String::as_str).collect();
    let bind = Bind::of_test(test, &cgroup);
    let actual = tables.decide(&bind).map(|decision| Actual {
        verdict: decision.verdict,
        rule: policy.rule(decision.rule),
    });
    let by = actual.and_then(|actual| actual.rule).map(|rule| &rule.name);
    let mut expected = None;
    if test.rule.is_some() && test.rule.as_ref() != by {
        let mut rules = policy.rules.iter();
        if let Some(rule) = rules.find(|rule| Some(&rule.name) == test.rule.as_ref()) {
            expected = Some((rule, first_mismatch(policy, rule, &bind)?));
        }
    }
    Ok(TestResult {
        test,
        actual,
        expected,
    })
}
