//! `portguard schema`, by a validator: what ships is valid, and what is broken is not, where a schema can
//! say so.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

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
fn what_ships_is_valid() {
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
fn keys_are_those_that_are_read() {
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

/// Cases of `policy/messages.txt` that are wrong in a way that no schema can say: what is written twice, and
/// what one part says of another.
const BEYOND: [&str; 4] = [
    "a duplicate key of a rule",
    "a duplicate key with keys of its own",
    "a name twice",
    "a test of a rule that is not there",
];

#[test]
fn broken_examples_are_invalid() {
    let table = include_str!("policy/messages.txt");
    let validator = validator();
    let mut beyond: BTreeSet<&str> = BTreeSet::new();
    for case in table.split("\n====\n").filter(|case| !case.is_empty()) {
        let (head, rest) = case.split_once('\n').unwrap();
        let (text, said) = rest.split_once("\n----").unwrap();
        let broken = said
            .lines()
            .any(|line| line.starts_with("p.yaml:") && !line.contains(": warning: "));
        // What cannot be read as YAML has no value to validate.
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
            "{head} is no error, and not valid: {:?}",
            validator
                .iter_errors(&policy)
                .map(|e| e.to_string())
                .collect::<Vec<_>>()
        );
    }
    let known: BTreeSet<&str> = BEYOND.into();
    assert_eq!(beyond, known);
}
