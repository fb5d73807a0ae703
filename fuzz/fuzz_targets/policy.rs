//! YAML text -> policy -> tables -> decisions: no panic, no hang, and no control character in a message.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use portguard_common::{NO_RULE, Protocol};
use portguard_policy::analysis::diff::changes;
use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::analysis::space::BindSpace;
use portguard_policy::compile::{Bind, Tables, compile};
use portguard_policy::policy::document::{self, Node, Value};
use portguard_policy::policy::{
    self, CgroupPattern, Component, Diagnostics, Policy, Rule, StaticNames,
};
use portguard_policy::yaml::PolicyFile;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::LazyLock;

/// Rules of which binds are tried.
const TRIED: usize = 8;

/// A machine that is the same everywhere.
static NAMES: LazyLock<StaticNames> = LazyLock::new(|| {
    let ids = [("root", 0), ("www-data", 33), ("alice", 1000)];
    StaticNames::new(&ids, &ids, "host1.example")
});

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Corpus::Reject;
    };
    same_yaml(text);
    match policy::parse(Path::new("fuzz.yaml"), text, &*NAMES) {
        Err(problems) => {
            assert!(problems.has_errors(), "refused without an error");
            assert!(!readable(&problems).is_empty(), "refused without a word");
        }
        Ok(mut loaded) => {
            lint(&mut loaded, &Host::ANY);
            readable(&loaded.warnings);
            check(&loaded.policy);
            shown(&loaded.policy);
        }
    }
    Corpus::Keep
});

/// Where an independent YAML parser accepts the text too, it reads the same values.
fn same_yaml(text: &str) {
    // The other one follows YAML 1.1 here: its lines end at more characters, anchors at fewer, `?` begins a key
    // without a blank behind it, and it strips every byte order mark.
    let not_compared = ["\u{85}", "\u{2028}", "\u{2029}", "\u{feff}"];
    let is_key = |rest: &str| rest.starts_with([' ', '\n']);
    if not_compared.iter().any(|part| text.contains(part))
        || text.split('?').skip(1).any(|rest| !is_key(rest))
        || has_odd_anchors(text)
    {
        return;
    }
    let document = document::parse(text);
    let (Some(root), []) = (&document.root, &document.errors[..]) else {
        return;
    };
    if let Ok(other) = serde_yaml::from_str::<serde_yaml::Value>(text) {
        assert!(same(root, &other), "{root:?}\nis to serde_yaml\n{other:?}");
    }
}

/// Whether an anchor or an alias may have other characters than letters, digits, `_` and `-`.
fn has_odd_anchors(text: &str) -> bool {
    let ends = |c: char| c.is_whitespace() || ",[]{}".contains(c);
    let odd = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-';
    let mut names = text.split(['&', '*']).skip(1);
    names.any(|rest| {
        rest.split(ends)
            .next()
            .is_some_and(|name| name.contains(odd))
    })
}

fn same(node: &Node, other: &serde_yaml::Value) -> bool {
    use serde_yaml::Value as Other;
    match (&node.value, other) {
        (Value::Null, Other::Null) => true,
        (Value::Bool(truth), Other::Bool(other)) => truth == other,
        (Value::Number(number), Other::Number(other)) => match other.as_u64() {
            Some(other) => number.int == Some(other),
            None => number.int.is_none(),
        },
        // YAML 1.2 has leading zeros and floats without bound.
        (Value::Number(number), Other::String(other)) => &*number.text == other,
        // YAML 1.2 has no binary numbers, and no signs before octal and hexadecimal ones.
        (Value::String(text), Other::Number(_)) => {
            let digits = text.trim_start_matches(['+', '-']);
            ["0b", "0o", "0x"]
                .iter()
                .any(|radix| digits.starts_with(radix))
        }
        // saphyr-parser gives block scalars without a line end one: those that are empty or end the file.
        (Value::String(text), Other::String(other)) => {
            text.trim_end_matches('\n') == other.trim_end_matches('\n')
        }
        (Value::List(list), Other::Sequence(other)) => {
            list.len() == other.len() && list.iter().zip(other).all(|(a, b)| same(a, b))
        }
        (Value::Mapping(mapping), Other::Mapping(other)) => {
            let entries = mapping.iter();
            entries.len() == other.len()
                && entries.zip(other).all(|(entry, (key, value))| {
                    key.as_str().is_none_or(|key| *entry.key == *key) && same(&entry.value, value)
                })
        }
        _ => false,
    }
}

/// The problems as a terminal gets them.
fn readable(problems: &Diagnostics) -> String {
    let text = problems.render(false);
    let obeyed = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(obeyed, None, "a control character in {text:?}");
    text
}

/// What `check --show` prints is the same policy.
fn shown(policy: &Policy) {
    let text = PolicyFile::from(policy).to_string();
    let again = policy::parse(Path::new("shown.yaml"), &text, &*NAMES)
        .unwrap_or_else(|problems| panic!("{}\n{text}", problems.render(false)));
    let digest = |policy: &Policy| compile(policy).map(|tables| tables.short_digest());
    assert_eq!(digest(policy), digest(&again.policy), "{text}");
    if let Ok(space) = BindSpace::new(&[policy, &again.policy])
        && let Ok(changes) = changes(&space)
    {
        assert!(changes.is_empty(), "{text}");
    }
}

/// Compiles a policy and asks it.
fn check(policy: &Policy) {
    let Ok(tables) = compile(policy) else {
        return;
    };
    if let Ok(again) = compile(policy) {
        assert_eq!(tables.digest, again.digest, "equal policies differ");
    }
    let wildcard = Ipv6Addr::UNSPECIFIED.into();
    for test in &policy.tests {
        let cgroup: Vec<&str> = test.cgroup.iter().map(String::as_str).collect();
        ask(policy, &tables, &Bind::of_test(test, &cgroup));
    }
    for rule in policy.rules.iter().take(TRIED) {
        let user = rule.users.iter().flatten().next();
        let group = rule.groups.iter().flatten().next();
        let network = rule.addresses.iter().flatten().next();
        let cgroup = cgroup_of(rule);
        let cgroup: Vec<&str> = cgroup.iter().map(String::as_str).collect();
        let uid = user.map_or(0, |u| *u.end());
        let gids = [group.map_or(100, |g| *g.start())];
        let meant = Bind {
            port: rule.ports.iter().flatten().next().map_or(80, |p| *p.end()),
            protocol: Protocol::Tcp,
            uid,
            euid: uid,
            gids: &gids,
            setgid: None,
            owners: &[],
            cgroup: &cgroup,
            address: network.map_or(Ipv4Addr::LOCALHOST.into(), |n| n.network()),
            dual_stack: false,
        };
        let euid = uid.saturating_add(1);
        ask(policy, &tables, &meant);
        ask(
            policy,
            &tables,
            &Bind {
                port: meant.port.saturating_add(1),
                ..meant
            },
        );
        ask(
            policy,
            &tables,
            &Bind {
                euid,
                cgroup: &[],
                ..meant
            },
        );
        ask(
            policy,
            &tables,
            &Bind {
                gids: &[],
                setgid: None,
                owners: &[],
                address: wildcard,
                dual_stack: true,
                ..meant
            },
        );
    }
}

/// A cgroup near what a rule names: its pattern, each `*` as it stands.
fn cgroup_of(rule: &Rule) -> Vec<String> {
    let unit = rule.units.iter().flatten().next();
    let mut path: Vec<String> = match rule.cgroups.iter().flatten().next() {
        Some(CgroupPattern(components)) => {
            let names = components.iter().filter_map(|component| match component {
                Component::AnyDepth => None,
                Component::Name(name) => Some(name.clone()),
            });
            names.collect()
        }
        None => vec!["system.slice".into()],
    };
    path.extend(unit.map(|unit| unit.0.clone()));
    path
}

/// Decides a bind by every protocol. Who decided must be there, and have said so.
fn ask(policy: &Policy, tables: &Tables, bind: &Bind<'_>) {
    for protocol in Protocol::ALL {
        let Some(decision) = tables.decide(&Bind { protocol, ..*bind }) else {
            continue;
        };
        let rule = policy.rules.get(usize::from(decision.rule));
        let says = rule.map_or(policy.default, |rule| rule.action);
        assert_eq!(decision.verdict, says, "the decider did not say so");
        let audit = rule.is_some_and(|rule| rule.audit);
        assert_eq!(decision.audit, audit, "the decider's mode is another");
        assert!(
            rule.is_some() || decision.rule == NO_RULE,
            "a rule that is not there decided"
        );
    }
}
