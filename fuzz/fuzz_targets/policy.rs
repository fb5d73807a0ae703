//! YAML text -> policy -> tables -> decisions: no panic, no hang, and no control character in a message.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use portguard::compile::{Bind, Tables, compile};
use portguard::policy::{self, Names, Policy, Problems};
use portguard_common::{NO_RULE, Protocol};
use std::path::Path;

/// Rules of which binds are tried.
const TRIED: usize = 8;

/// A machine that is the same everywhere.
struct FixedNames;

impl Names for FixedNames {
    fn uid(&self, name: &str) -> Option<u32> {
        match name {
            "root" => Some(0),
            "www-data" => Some(33),
            "alice" => Some(1000),
            _ => None,
        }
    }

    fn user_names(&self) -> Vec<String> {
        ["root", "www-data", "alice"].map(str::to_owned).to_vec()
    }

    fn hostname(&self) -> String {
        "host1.example".into()
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Corpus::Reject;
    };
    match policy::parse(Path::new("fuzz.yaml"), text, &FixedNames) {
        Err(problems) => {
            assert!(problems.has_errors(), "refused without an error");
            assert!(!readable(&problems).is_empty(), "refused without a word");
        }
        Ok(loaded) => {
            readable(&loaded.warnings);
            check(&loaded.policy);
        }
    }
    Corpus::Keep
});

/// The problems as a terminal gets them.
fn readable(problems: &Problems) -> String {
    let text = problems.render(false);
    let obeyed = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(obeyed, None, "a control character in {text:?}");
    text
}

/// Compiles a policy and asks it.
fn check(policy: &Policy) {
    let Ok(tables) = compile(policy, 1) else {
        return;
    };
    if let Ok(again) = compile(policy, 2) {
        assert_eq!(tables.digest(), again.digest(), "equal policies differ");
    }
    for test in &policy.tests {
        let cgroup: Vec<&str> = test.cgroup.iter().map(String::as_str).collect();
        ask(policy, &tables, test.port, test.user, &cgroup);
    }
    for rule in policy.rules.iter().take(TRIED) {
        let port = rule.ports.iter().flatten().next();
        let user = rule.users.iter().flatten().next();
        let path = rule.cgroups.iter().flatten().next();
        let cgroup: Vec<&str> =
            path.map_or_else(Vec::new, |path| path.0.iter().map(String::as_str).collect());
        let (port, user) = (port.map_or(80, |p| *p.end()), user.map_or(0, |u| *u.end()));
        ask(policy, &tables, port, user, &cgroup);
        ask(policy, &tables, port.saturating_add(1), user, &[]);
        ask(policy, &tables, port, user.saturating_add(1), &cgroup);
    }
}

/// Decides a bind by every protocol. Who decided must be there, and have said so.
fn ask(policy: &Policy, tables: &Tables, port: u16, uid: u32, cgroup: &[&str]) {
    for protocol in Protocol::ALL {
        let decision = tables.decide(&Bind {
            port,
            protocol,
            uid,
            euid: uid,
            cgroup,
        });
        let Some(decision) = decision else {
            continue;
        };
        let says = match policy.rules.get(usize::from(decision.rule)) {
            Some(rule) => rule.action,
            None => {
                assert_eq!(decision.rule, NO_RULE, "a rule that is not there decided");
                policy.default
            }
        };
        assert_eq!(decision.verdict, says, "the decider did not say so");
    }
}
