//! The JSON Schema, by a validator: shipped policies are valid, and broken ones are not, where a schema can express
//! that.
#![expect(clippy::unwrap_used, reason = "a failed setup fails the test")]

use portguard_policy::policy::{FILE_KEYS, RULE_KEYS, TEST_KEYS};
use portguard_policy::yaml::schema;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&schema()).unwrap()
}

fn read(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

#[test]
fn schema_accepts_shipped_policies() {
    let policies = Path::new("../policies");
    let mut seen = 0;
    for entry in std::fs::read_dir(policies).unwrap() {
        let path = entry.unwrap().path();
        let policy = read(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<String> = validator()
            .iter_errors(&policy)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn schema_keys_are_those_of_the_parser() {
    let schema = schema();
    let keys = |schema: &Value| -> BTreeSet<String> {
        schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let read =
        |keys: &[&str]| -> BTreeSet<String> { keys.iter().map(|key| (*key).into()).collect() };
    assert_eq!(keys(&schema), read(&FILE_KEYS));
    assert_eq!(keys(&schema["$defs"]["Rule"]), read(&RULE_KEYS));
    assert_eq!(keys(&schema["$defs"]["Test"]), read(&TEST_KEYS));
}

/// Cases of `policy/messages.txt` with errors that no schema can express: duplicates, and references from one part
/// to another.
const BEYOND: [&str; 4] = [
    "a duplicate key of a rule",
    "a duplicate key with keys of its own",
    "a name twice",
    "a test of a rule that is not there",
];

#[test]
fn schema_rejects_broken_policies() {
    let table = include_str!("policy/messages.txt");
    let validator = validator();
    let mut beyond: BTreeSet<&str> = BTreeSet::new();
    for case in table.split("\n====\n").filter(|case| !case.is_empty()) {
        let (head, rest) = case.split_once('\n').unwrap();
        let (text, shown) = rest.split_once("\n----").unwrap();
        let broken = shown
            .lines()
            .any(|line| line.starts_with("p.yaml:") && !line.contains(": warning: "));
        // Without a value there is nothing to validate.
        let Some(policy) = read(text) else { continue };
        if text.contains('<') && text.contains('>') {
            continue;
        }
        let valid = validator.is_valid(&policy);
        if broken && valid {
            beyond.insert(head.strip_prefix("# ").unwrap());
        }
        assert!(
            broken || valid,
            "{head} is not an error, and not valid: {:?}",
            validator
                .iter_errors(&policy)
                .map(|e| e.to_string())
                .collect::<Vec<_>>()
        );
    }
    let known: BTreeSet<&str> = BEYOND.into();
    assert_eq!(beyond, known);
}
