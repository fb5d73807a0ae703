//! Unreachable rules: no warning is wrong, and the plain cases have one.

#![expect(clippy::unwrap_used, reason = "a failed setup fails the test")]

use portguard_common::Verdict;
use portguard_policy::analysis::finding::Finding;
use portguard_policy::analysis::lint::{Host, findings};
use portguard_policy::policy::{Component, Policy, StaticNames, parse};
use proptest::prelude::*;

/// The policy, and the names of the rules reported as unreachable.
fn unreachable(rules: &[String]) -> (Policy, Vec<String>) {
    let text = format!("version: 1\nrules:\n{}", rules.concat());
    let loaded = parse("p.yaml".as_ref(), &text, &StaticNames::default()).unwrap();
    let found = findings(&loaded.policy, &Host::ANY);
    let names = found.iter().filter_map(Finding::unreachable_rule);
    let names = names.map(str::to_owned).collect();
    (loaded.policy, names)
}

/// Names of the rules that decide no bind, by trying all binds.
fn dead(policy: &Policy) -> Vec<String> {
    let mut alive = vec![false; policy.rules.len()];
    let paths: [&[&str]; 5] = [&[], &["a"], &["a", "b"], &["c"], &["z"]];
    for (port, path) in (1..=5).flat_map(|port| paths.map(|path| (port, path))) {
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        for (uid, euid) in (0..=3).flat_map(|uid| (0..=3).map(move |euid| (uid, euid))) {
            let decides = policy.rules.iter().position(|rule| {
                let has = |uid: u32| {
                    let users = rule.users.as_ref();
                    users.is_none_or(|users| users.iter().any(|range| range.contains(&uid)))
                };
                let users = match rule.action {
                    Verdict::Deny => has(uid) || has(euid),
                    Verdict::Allow | Verdict::Kernel => has(uid) && has(euid),
                };
                users
                    && (rule.ports.as_ref())
                        .is_none_or(|ports| ports.iter().any(|range| range.contains(&port)))
                    && (rule.cgroups.as_ref())
                        .is_none_or(|all| all.iter().any(|above| starts_with(&path, &above.0)))
            });
            if let Some(rule) = decides {
                alive[rule] = true;
            }
        }
    }
    let dead = policy.rules.iter().zip(alive).filter(|(_, alive)| !alive);
    dead.map(|(rule, _)| rule.name.clone()).collect()
}

fn rule(name: &str, rest: &str) -> String {
    format!("- {{ name: {name}, {rest} }}\n")
}

#[test]
fn allow_for_two_users_is_shadowed_by_two_denials() {
    let denials = [
        rule("a", "action: deny, ports: [80], users: [1000]"),
        rule("b", "action: deny, ports: [80], users: [1001]"),
        rule("c", "action: allow, ports: [80], users: [1000, 1001]"),
    ];
    assert_eq!(unreachable(&denials).1, ["c"]);
}

#[test]
fn allow_for_two_users_still_decides_callers_with_both_uids() {
    let grants = [
        rule("a", "action: allow, ports: [80], users: [1000]"),
        rule("b", "action: allow, ports: [80], users: [1001]"),
        rule("c", "action: allow, ports: [80], users: [1000, 1001]"),
    ];
    assert!(unreachable(&grants).1.is_empty());
}

#[test]
fn deny_after_allow_still_decides_callers_with_another_uid() {
    let rules = [
        rule("a", "action: allow, ports: [80], users: [1000]"),
        rule("b", "action: deny, ports: [80], users: [1000]"),
        rule("c", "action: deny, ports: [80], users: [1000]"),
    ];
    assert_eq!(unreachable(&rules).1, ["c"]);
}

#[test]
fn rule_for_a_wildcard_is_shadowed_by_a_denial_of_its_addresses() {
    let rules = [
        rule(
            "a",
            "action: deny, ports: [80], addresses: [127.0.0.0/8, '::1']",
        ),
        rule(
            "b",
            "action: allow, ports: [80], addresses: [0.0.0.0, '::']",
        ),
        rule("c", "action: allow, ports: [80], addresses: [0.0.0.0/0]"),
        rule("d", "action: deny, ports: [81], addresses: [0.0.0.0/0]"),
        rule(
            "e",
            "action: allow, ports: [81], addresses: [0.0.0.0/1, 128.0.0.0/1]",
        ),
        rule("f", "action: allow, ports: [81], addresses: ['::']"),
    ];
    assert_eq!(unreachable(&rules).1, ["b", "e"]);
}

#[test]
fn rule_is_shadowed_by_several_rules_together() {
    let rules = [
        rule("a", "action: deny, ports: [80], cgroups: [/a]"),
        rule("b", "action: deny, ports: [80], cgroups: [/b]"),
        rule("c", "action: deny, ports: [81]"),
        rule("d", "action: allow, ports: [80, 81], cgroups: [/a/x, /b]"),
        rule("e", "action: allow, ports: [80], cgroups: [/]"),
        rule("f", "action: allow, ports: [8080]"),
    ];
    assert_eq!(unreachable(&rules).1, ["d", "f"]);
}

#[test]
fn last_of_4096_rules_is_found_unreachable() {
    let mut rules: Vec<String> = (0..4094)
        .map(|i| {
            let (port, user) = (i % 1023 + 1, 2000 + i);
            let rest = format!("action: allow, ports: [{port}], users: [{user}]");
            rule(&format!("r{i}"), &rest)
        })
        .collect();
    rules.push(rule("first", "action: allow, ports: [5], users: [7]"));
    rules.push(rule("second", "action: allow, ports: [5], users: [7]"));
    assert_eq!(unreachable(&rules).1, ["second"]);
}

fn some(words: &'static [&'static str], field: &'static str) -> impl Strategy<Value = String> {
    let list = proptest::sample::subsequence(words, 1..=words.len());
    proptest::option::of(list).prop_map(move |list| {
        list.map_or_else(String::new, |list| {
            format!(", {field}: [{}]", list.join(", "))
        })
    })
}

fn rules() -> impl Strategy<Value = Vec<String>> {
    let fields = (
        proptest::sample::select(&["allow", "deny", "kernel"]),
        some(&["1", "2", "3", "4"], "ports"),
        some(&["0", "1", "2"], "users"),
        some(&["/a", "/a/b", "/c"], "cgroups"),
    );
    proptest::collection::vec(fields, 2..9).prop_map(|all| {
        let line = |(i, (action, ports, users, cgroups))| {
            rule(
                &format!("r{i}"),
                &format!("action: {action}{ports}{users}{cgroups}"),
            )
        };
        all.into_iter().enumerate().map(line).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn reported_rules_never_decide(rules in rules()) {
        let (policy, reported) = unreachable(&rules);
        let dead = dead(&policy);
        for name in &reported {
            prop_assert!(dead.contains(name), "{} decides: {}", name, rules.concat());
        }
    }
}

/// Whether a path without patterns begins with one that has none either.
fn starts_with(path: &[String], above: &[Component]) -> bool {
    above.len() <= path.len()
        && above
            .iter()
            .zip(path)
            .all(|(component, name)| match component {
                Component::Name(known) => known == name,
                Component::AnyDepth => false,
            })
}
