//! The shipped policies: each parses without warnings, and its own `tests:` pass.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use portguard_itest::shipped::{expects_both, policies, read};
use portguard_policy::compile::{Bind, compile};
use std::path::{Path, PathBuf};

fn paths() -> Vec<PathBuf> {
    let directory = Path::new("../policies");
    policies(directory).expect("portguard ships policies")
}

#[test]
fn shipped_policies_pass_their_tests() {
    for path in paths() {
        let name = path.display();
        let policy = read(&path).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        expects_both(&policy).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let tables = compile(&policy).unwrap_or_else(|error| panic!("{name}: {error}"));
        for test in &policy.tests {
            let line = format!("{name}:{}", test.location.line);
            let cgroup: Vec<&str> = test.cgroup.iter().map(String::as_str).collect();
            let decision = tables.decide(&Bind::of_test(test, &cgroup));
            let Some(decision) = decision else {
                panic!("{line}: port {} is not protected", test.port);
            };
            assert_eq!(decision.verdict, test.expect, "{line}: {test:?}");
            if let Some(rule) = &test.rule {
                assert_eq!(
                    tables.rule_name(decision.rule),
                    Some(rule.as_str()),
                    "{line}"
                );
            }
        }
        println!("{name}: {} tests pass", policy.tests.len());
    }
}

#[test]
fn shipped_policies_begin_with_their_purpose() {
    for path in paths() {
        let text = std::fs::read_to_string(&path).expect("it was listed");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("# ") && first.len() > 20,
            "{} begins with {first:?}",
            path.display()
        );
    }
}
