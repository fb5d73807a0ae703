//! The shipped policies: each is read without a warning and holds what its own `tests:` say.
#![expect(clippy::expect_used, reason = "a test says by panicking what is wrong")]

use portguard_itest::shipped::{policies, read, sees_both};
use portguard_policy::compile::{Bind, compile};
use std::path::{Path, PathBuf};

fn shipped() -> Vec<PathBuf> {
    let directory = Path::new("../policies");
    policies(&directory).expect("portguard ships policies")
}

#[test]
fn every_shipped_policy_holds_what_its_tests_say() {
    for path in shipped() {
        let shown = path.display();
        let policy = read(&path).unwrap_or_else(|error| panic!("{shown}: {error:#}"));
        sees_both(&policy).unwrap_or_else(|error| panic!("{shown}: {error:#}"));
        let tables = compile(&policy, 1).unwrap_or_else(|error| panic!("{shown}: {error}"));
        for test in &policy.tests {
            let line = format!("{shown}:{}", test.location.line);
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
        println!("{shown}: {} tests pass", policy.tests.len());
    }
}

#[test]
fn every_shipped_policy_says_first_who_it_is_for() {
    for path in shipped() {
        let text = std::fs::read_to_string(&path).expect("it was listed");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("# ") && first.len() > 20,
            "{} begins with {first:?}",
            path.display()
        );
    }
}
