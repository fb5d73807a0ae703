//! Compiled decisions equal the naive oracle's, over random policies and binds.
//!
//! The whole way is taken: a model, its YAML, the parser, the compiler, the code that the kernel
//! runs. `PORTGUARD_SEED` replays a run, `PORTGUARD_CASES` sets how many policies are tried.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test says by panicking what is wrong"
)]

use portguard::compile::{Bind, Tables, compile};
use portguard::policy::{Loaded, Names};
use portguard_common::{Decision, Page, Protocol, Verdict};
use portguard_itest::generate::{World, case, model, sparse_case};
use portguard_itest::oracle::{
    Action, Answer, Logged, Model, ModelRule, OracleBind, Proto, rules_yaml,
};
use portguard_itest::seed::{cases, runner};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::time::Instant;

/// Binds tried under each policy.
const BINDS: usize = 128;

/// Nobody: generated policies name users by their ids.
struct Nobody;

impl Names for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }

    fn user_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn hostname(&self) -> String {
        "test".to_owned()
    }
}

/// Reads a policy that has no problem.
fn parsed(text: &str) -> Loaded {
    portguard::policy::parse("policy.yaml".as_ref(), text, &Nobody)
        .unwrap_or_else(|problems| panic!("{}\n{text}", problems.render(false)))
}

fn verdict(action: Action) -> Verdict {
    match action {
        Action::Allow => Verdict::Allow,
        Action::Deny => Verdict::Deny,
        Action::Kernel => Verdict::Kernel,
    }
}

fn protocol(proto: Proto) -> Protocol {
    match proto {
        Proto::Tcp => Protocol::Tcp,
        Proto::Udp => Protocol::Udp,
        Proto::Sctp => Protocol::Sctp,
        Proto::Dccp => Protocol::Dccp,
    }
}

fn decided(tables: &Tables, bind: &OracleBind) -> Option<Decision> {
    let cgroup: Vec<&str> = bind.cgroup.iter().map(String::as_str).collect();
    tables.decide(&Bind {
        port: bind.port,
        protocol: protocol(bind.protocol),
        uid: bind.uid,
        euid: bind.euid,
        cgroup: &cgroup,
    })
}

/// What the tables say, in the oracle's words.
type Said<'a> = (Verdict, Option<&'a str>, bool);

fn tables_say<'a>(tables: &'a Tables, bind: &OracleBind) -> Option<Said<'a>> {
    decided(tables, bind).map(|d| (d.verdict, tables.rule_name(d.rule), d.report))
}

fn oracle_says<'a>(model: &'a Model, bind: &OracleBind) -> Option<Said<'a>> {
    model.decide(bind).map(
        |Answer {
             verdict: v,
             rule,
             report,
         }| (verdict(v), rule, report),
    )
}

/// Model -> YAML -> policy -> tables.
fn tables_of(model: &Model) -> Tables {
    let text = model.to_yaml();
    let loaded = parsed(&text);
    compile(&loaded.policy, 1).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn agree(model: &Model, binds: &[OracleBind]) -> Result<(), TestCaseError> {
    let tables = tables_of(model);
    for bind in binds {
        let (said, wanted) = (tables_say(&tables, bind), oracle_says(model, bind));
        prop_assert_eq!(said, wanted, "{:?} under\n{}", bind, model.to_yaml());
    }
    Ok(())
}

/// Runs a property over so many cases, all of them from the printed seed.
fn hold<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let start = Instant::now();
    let (seed, mut runner) = runner(cases);
    println!("{name}: {cases} policies, PORTGUARD_SEED={seed}");
    if let Err(failure) = runner.run(&strategy, property) {
        panic!("{name}: replay with PORTGUARD_SEED={seed}\n{failure}");
    }
    println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
}

#[test]
fn compiled_decisions_equal_the_oracle() {
    let tried = std::cell::Cell::new(0usize);
    let decided = std::cell::Cell::new(0usize);
    let by_rule = std::cell::Cell::new(0usize);
    hold(
        "small policies",
        cases(1000),
        case(&World::wide(), 0..=24, BINDS),
        |(model, binds)| {
            let answers = || binds.iter().filter_map(|bind| model.decide(bind));
            tried.set(tried.get() + binds.len());
            decided.set(decided.get() + answers().count());
            by_rule.set(by_rule.get() + answers().filter(|a| a.rule.is_some()).count());
            agree(&model, &binds)
        },
    );
    let (tried, decided, by_rule) = (tried.get(), decided.get(), by_rule.get());
    println!("{tried} binds, {decided} of protected ports, {by_rule} decided by a rule");
    // A generator that misses proves nothing.
    assert!(decided * 3 > tried, "most binds miss the protected ports");
    assert!(by_rule * 3 > decided, "most binds miss every rule");
}

/// Files of a directory in byte order of their names, rules in a row, the last setting wins.
#[test]
fn a_directory_of_files_is_one_policy() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (first, last) = (
        directory.path().join("10-first.yaml"),
        directory.path().join("9-last.yaml"),
    );
    hold(
        "policies of two files",
        cases(1000).div_ceil(10),
        (
            case(&World::wide(), 2..=24, BINDS),
            model(&World::wide(), 0..=0),
        ),
        |((model, binds), overridden)| {
            let (head, tail) = model.rules.split_at(model.rules.len() / 2);
            let text = |settings: &Model, rules| settings.settings_yaml() + &rules_yaml(rules);
            std::fs::write(&first, text(&overridden, head)).expect("to write");
            std::fs::write(&last, text(&model, tail)).expect("to write");
            let loaded = portguard::policy::load(&[directory.path().to_owned()], &Nobody)
                .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
            let tables = compile(&loaded.policy, 1).expect("within the limits");
            for bind in &binds {
                prop_assert_eq!(tables_say(&tables, bind), oracle_says(&model, bind));
            }
            Ok(())
        },
    );
}

#[test]
fn compiled_decisions_equal_the_oracle_with_rules_in_many_words() {
    hold(
        "policies of hundreds of rules",
        cases(1000).div_ceil(25),
        case(&World::wide(), 65..=700, 4 * BINDS),
        |(model, binds)| agree(&model, &binds),
    );
}

#[test]
fn compiled_decisions_equal_the_oracle_where_late_rules_decide() {
    let late = std::cell::Cell::new(0usize);
    hold(
        "policies of thousands of rules",
        cases(1000).div_ceil(50),
        sparse_case(600..=4096, 4 * BINDS),
        |(model, binds)| {
            let deciding = binds.iter().filter_map(|bind| model.decide(bind)?.rule);
            let numbers =
                deciding.filter_map(|name| name.strip_prefix("rule-")?.parse::<usize>().ok());
            late.set(late.get() + numbers.filter(|number| *number >= 512).count());
            agree(&model, &binds)
        },
    );
    println!("{} binds decided by rule 512 or a later one", late.get());
    assert!(late.get() > 500, "late rules hardly ever decide");
}

/// Rules that no bind of the clusters meets early: the last ones decide.
fn many(rules: usize, users: usize) -> Model {
    let each = users / rules;
    let rules = (0..rules)
        .map(|number| {
            let first = (number * each) as u32;
            ModelRule {
                name: format!("rule-{number}"),
                action: [Action::Allow, Action::Deny, Action::Kernel][number % 3],
                ports: (number % 5 != 0).then(|| vec![(80 + (number % 900) as u16, 1000)]),
                protocols: (number % 7 == 0).then(|| vec![Proto::Udp]),
                // Every other uid, so that no two make a range.
                users: Some(
                    (0..each as u32)
                        .map(|i| (2 * (first + i), 2 * (first + i)))
                        .collect(),
                ),
                cgroups: (number % 3 == 0).then(|| vec![vec![format!("group-{}", number % 64)]]),
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

/// Binds over all users of [`many`], at the edges of ports and with and without a cgroup.
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
            }
        })
    })
}

#[test]
fn the_largest_policy_compiles_and_is_right() {
    let (rules, users) = (4096, 65_536);
    let model = many(rules, users);
    let text = model.to_yaml();
    let start = Instant::now();
    let loaded = parsed(&text);
    let parsing = start.elapsed();
    let start = Instant::now();
    let tables = compile(&loaded.policy, 1).expect("within the limits");
    let compiling = start.elapsed();
    println!(
        "{rules} rules, {users} users: {:.1} MB of YAML parsed in {} ms, compiled in {} ms to {} pages, {:.1} MB",
        text.len() as f64 / 1e6,
        parsing.as_millis(),
        compiling.as_millis(),
        tables.pages().len(),
        size_of_val(tables.pages()) as f64 / 1e6,
    );
    assert_eq!(tables.rule_count(), rules);
    assert_eq!(tables.user_count(), users);
    for bind in sweep(users) {
        assert_eq!(
            tables_say(&tables, &bind),
            oracle_says(&model, &bind),
            "{bind:?}"
        );
    }
}

/// Rule `b` has the users whose number has bit `b` set: all 65,536 of them are told apart.
#[test]
fn users_that_share_no_class_fit_too() {
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
    let tables = compile(&policy, 1).expect("within the limits");
    println!(
        "65,536 users, each another set of rules: compiled in {} ms to {} pages, {:.1} MB",
        start.elapsed().as_millis(),
        tables.pages().len(),
        size_of_val(tables.pages()) as f64 / 1e6,
    );
    for bind in sweep(users as usize) {
        assert_eq!(
            tables_say(&tables, &bind),
            oracle_says(&model, &bind),
            "{bind:?}"
        );
    }
}

#[test]
fn the_last_of_4096_rules_on_one_port_decides() {
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
    };
    assert_eq!(oracle_says(&model, &bind).unwrap().1, Some("rule-4095"));
    assert_eq!(tables_say(&tables, &bind), oracle_says(&model, &bind));
}

#[test]
fn one_rule_over_the_limit_is_refused() {
    let model = many(4097, 4097);
    let text = model.to_yaml();
    let loaded = portguard::policy::parse("p.yaml".as_ref(), &text, &Nobody);
    let refused = match loaded {
        Err(problems) => problems.render(false),
        Ok(loaded) => compile(&loaded.policy, 1)
            .err()
            .expect("4,097 rules")
            .to_string(),
    };
    assert!(
        refused.contains("4,096") || refused.contains("4096"),
        "{refused}"
    );
}

#[test]
fn every_port_is_protected_or_not_as_the_policy_says() {
    hold(
        "protected ports",
        cases(1000).div_ceil(20),
        model(&World::wide(), 0..=8),
        |model| {
            let tables = tables_of(&model);
            for port in 0..=u16::MAX {
                for proto in Proto::ALL {
                    let bind = OracleBind {
                        port,
                        protocol: proto,
                        uid: 0,
                        euid: 0,
                        cgroup: Vec::new(),
                    };
                    let decided = decided(&tables, &bind).is_some();
                    prop_assert_eq!(decided, model.decide(&bind).is_some(), "{:?}", bind);
                }
            }
            Ok(())
        },
    );
}

#[test]
fn the_digest_names_what_the_policy_says() {
    hold(
        "digests",
        cases(1000).div_ceil(5),
        model(&World::wide(), 1..=12),
        |model| {
            let policy = parsed(&model.to_yaml()).policy;
            let digest = |generation| *compile(&policy, generation).unwrap().digest();
            prop_assert_eq!(digest(1), digest(1), "the same policy twice");
            prop_assert_eq!(digest(1), digest(2), "the generation is no part of it");
            prop_assert_eq!(
                digest(1),
                digest(u16::MAX),
                "the generation is no part of it"
            );
            let mut other = model.clone();
            other.enforce = !other.enforce;
            prop_assert_ne!(digest(1), *tables_of(&other).digest(), "another mode");
            let mut other = model.clone();
            let last = other.rules.last_mut().unwrap();
            last.action = match last.action {
                Action::Deny => Action::Kernel,
                Action::Allow | Action::Kernel => Action::Deny,
            };
            prop_assert_ne!(digest(1), *tables_of(&other).digest(), "another action");
            let mut other = model;
            other.rules[0].name.push_str("-renamed");
            prop_assert_ne!(digest(1), *tables_of(&other).digest(), "another name");
            Ok(())
        },
    );
}

#[test]
fn generations_differ_in_their_numbers_alone() {
    let (_, mut runner) = runner(20);
    runner
        .run(&case(&World::wide(), 0..=24, BINDS), |(model, binds)| {
            let policy = parsed(&model.to_yaml()).policy;
            let tables = compile(&policy, 65_535).unwrap();
            prop_assert!(tables.pages().len() < portguard_common::MAX_PAGES as usize);
            prop_assert_eq!(size_of::<Page>(), 4096);
            for bind in &binds {
                prop_assert_eq!(tables_say(&tables, bind), oracle_says(&model, bind));
            }
            Ok(())
        })
        .unwrap();
}
