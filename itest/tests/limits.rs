//! The largest policies that the limits allow compile and decide correctly; time and size are printed.

use portguard_itest::convert::{oracle_outcome, parsed, tables_of, tables_outcome};
use portguard_itest::oracle::{Action, Logged, Model, ModelRule, OracleBind, Proto};
use portguard_policy::analysis::diff::{Change, diff};
use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::analysis::space::{BindSpace, Row};
use portguard_policy::compile::compile;
use portguard_policy::policy::StaticNames;
use std::time::Instant;

/// Many rules with users of their own, so that late rules decide.
fn many(rules: usize, users: usize) -> Model {
    let each = users / rules;
    let rules = (0..rules)
        .map(|number| {
            let first = (number * each) as u32;
            let action = [Action::Allow, Action::Deny, Action::Kernel][number % 3];
            ModelRule {
                ports: (number % 5 != 0).then(|| vec![(80 + (number % 900) as u16, 1000)]),
                protocols: (number % 7 == 0).then(|| vec![Proto::Udp]),
                // Every other uid, so that no two form a range.
                users: Some(
                    (0..each as u32)
                        .map(|i| (2 * (first + i), 2 * (first + i)))
                        .collect(),
                ),
                cgroups: (number % 3 == 0).then(|| vec![vec![format!("group-{}", number % 64)]]),
                ..ModelRule::new(format!("rule-{number}"), action)
            }
        })
        .collect();
    Model {
        enforce: true,
        default: Action::Deny,
        protect: vec![(1, 1023)],
        log: Logged::Deny,
        rules,
    }
}

/// Binds of all users of [`many`], at the edges of ports, with and without a cgroup.
fn sweep(users: usize) -> impl Iterator<Item = OracleBind> {
    (0..2 * users as u32 + 10).step_by(131).flat_map(|uid| {
        [(80, ""), (980, "group-3"), (1000, "group-63"), (1023, "")].map(|(port, cgroup)| {
            OracleBind {
                port,
                protocol: if uid % 2 == 0 { Proto::Udp } else { Proto::Tcp },
                uid: uid & !1,
                euid: if uid % 5 == 0 { uid + 1 } else { uid & !1 },
                cgroup: cgroup
                    .split('/')
                    .filter(|n| !n.is_empty())
                    .map(str::to_owned)
                    .collect(),
                gid: uid,
                egid: uid,
                groups: Vec::new(),
                owners: Vec::new(),
                address: [127, 0, 0, 1].into(),
                v6only: false,
            }
        })
    })
}

#[test]
fn largest_policy_compiles_and_decides() {
    let (rules, users) = (4096, 65_536);
    let model = many(rules, users);
    let text = model.to_yaml();
    let start = Instant::now();
    let loaded = parsed(&text);
    let parsing = start.elapsed();
    let start = Instant::now();
    let tables = compile(&loaded.policy).expect("within the limits");
    let compiling = start.elapsed();
    println!(
        "{rules} rules, {users} users: {:.1} MB of YAML parsed in {} ms, compiled in {} ms to {} pages, {:.1} MB",
        text.len() as f64 / 1e6,
        parsing.as_millis(),
        compiling.as_millis(),
        tables.pages.len(),
        size_of_val(tables.pages.as_slice()) as f64 / 1e6,
    );
    assert_eq!(tables.rule_names.len(), rules);
    assert_eq!(tables.user_count, users);
    for bind in sweep(users) {
        assert_eq!(
            tables_outcome(&tables, &bind),
            oracle_outcome(&model, &bind),
            "{bind:?}"
        );
    }
}

/// The proofs of `check` and `diff` of the largest policy and one that differs in one rule.
#[test]
fn largest_policy_is_linted_and_compared() {
    let old = many(4096, 65_536);
    let mut new = old.clone();
    new.rules[2000].users = Some(vec![(7, 8)]);
    let (mut loaded, new) = (parsed(&old.to_yaml()), parsed(&new.to_yaml()));
    let start = Instant::now();
    lint(&mut loaded, &Host::ANY);
    let proving = start.elapsed();
    let start = Instant::now();
    let space = BindSpace::new(&[&loaded.policy, &new.policy]).expect("within the limits");
    let rows = diff(&space).expect("within the budget");
    println!(
        "4096 rules, 65536 users: proved in {} ms, {} changes found in {} ms",
        proving.as_millis(),
        rows.len(),
        start.elapsed().as_millis(),
    );
    assert!(!rows.is_empty());
    let by_changed_rule = |row: &Row<Change<'_>>| {
        [row.value.old, row.value.new]
            .map(|effect| effect.rule())
            .contains(&Some("rule-2000"))
    };
    assert!(
        rows.iter().all(by_changed_rule),
        "nothing changes between other rules"
    );
}

/// Rule `b` has the users with bit `b` set, so that each of the 65,536 has its own class.
#[test]
fn users_without_shared_classes_compile() {
    let users = 65_536u32;
    let mut model = many(17, 17);
    for (bit, rule) in model.rules.iter_mut().enumerate() {
        let of_bit = (0..users).filter(|n| n >> bit & 1 == 1);
        rule.users = Some(of_bit.map(|n| (2 * n, 2 * n)).collect());
        rule.ports = Some(vec![(80 + bit as u16, 1000)]);
        rule.cgroups = None;
    }
    if let Some(last) = model.rules.last_mut() {
        last.users = Some(vec![(0, 2 * users)]);
    }
    let policy = parsed(&model.to_yaml()).policy;
    let start = Instant::now();
    let tables = compile(&policy).expect("within the limits");
    println!(
        "65,536 users, each another set of rules: compiled in {} ms to {} pages, {:.1} MB",
        start.elapsed().as_millis(),
        tables.pages.len(),
        size_of_val(tables.pages.as_slice()) as f64 / 1e6,
    );
    for bind in sweep(users as usize) {
        assert_eq!(
            tables_outcome(&tables, &bind),
            oracle_outcome(&model, &bind),
            "{bind:?}"
        );
    }
}

#[test]
fn last_of_4096_rules_decides() {
    let mut model = many(4096, 4096);
    for rule in &mut model.rules {
        rule.ports = Some(vec![(80, 80)]);
        rule.cgroups = None;
        rule.protocols = None;
    }
    let tables = tables_of(&model);
    let bind = OracleBind {
        port: 80,
        protocol: Proto::Tcp,
        uid: 2 * 4095,
        euid: 2 * 4095,
        cgroup: Vec::new(),
        gid: 0,
        egid: 0,
        groups: Vec::new(),
        owners: Vec::new(),
        address: [127, 0, 0, 1].into(),
        v6only: false,
    };
    assert_eq!(oracle_outcome(&model, &bind).unwrap().1, Some("rule-4095"));
    assert_eq!(
        tables_outcome(&tables, &bind),
        oracle_outcome(&model, &bind)
    );
}

#[test]
fn rule_over_the_limit_is_rejected() {
    let model = many(4097, 4097);
    let text = model.to_yaml();
    let loaded = portguard_policy::policy::parse("p.yaml".as_ref(), &text, &StaticNames::default());
    let refused = match loaded {
        Err(problems) => problems.render(false),
        Ok(loaded) => compile(&loaded.policy)
            .err()
            .expect("4,097 rules")
            .to_string(),
    };
    assert!(
        refused.contains("4,096") || refused.contains("4096"),
        "{refused}"
    );
}
