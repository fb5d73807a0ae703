//! The memo of a policy says what `decide_bind` says, at every port class and for every caller that it knows.

use portguard_common::{Answer, Kind, Memo, NO_RULE, Page, Protocol};
use portguard_itest::convert::{decided, parsed, tables_of, with_bind};
use portguard_itest::generate::{GeneratorConfig, case};
use portguard_itest::oracle::{Model, OracleBind};
use portguard_itest::seed::{cases, runner};
use portguard_policy::compile::{Remembered, Tables, compile};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeSet;

/// Binds of each policy that give callers and addresses.
const BINDS: usize = 12;

/// The ports at which what holds could change.
fn ports(model: &Model) -> BTreeSet<u16> {
    let rules = model
        .rules
        .iter()
        .flat_map(|rule| rule.ports.iter().flatten());
    let spans = rules.chain(&model.protect);
    let near = |port: u16| [port.saturating_sub(1), port, port.saturating_add(1)];
    let ports = spans.flat_map(|(first, last)| near(*first).into_iter().chain(near(*last)));
    ports.chain([0, u16::MAX]).collect()
}

/// The uids at which what holds could change.
fn uids(model: &Model) -> BTreeSet<u32> {
    let spans = model
        .rules
        .iter()
        .flat_map(|rule| rule.users.iter().flatten());
    let near = |uid: u32| [uid.saturating_sub(1), uid, uid.saturating_add(1)];
    let uids = spans.flat_map(|(first, last)| near(*first).into_iter().chain(near(*last)));
    // `(uid_t)-1` is no one's.
    uids.chain([0, u32::MAX - 1])
        .filter(|uid| *uid != u32::MAX)
        .collect()
}

/// How many binds the memo decided.
#[derive(Default)]
struct Tally {
    tried: usize,
    remembered: usize,
}

fn check_bind(
    tables: &Tables,
    memo: &Memo,
    model: &Model,
    bind: &OracleBind,
    tally: &mut Tally,
) -> Result<(), TestCaseError> {
    let decision = decided(tables, bind);
    tally.tried += 1;
    let class = memo.class::<[Page]>(bind.port);
    match with_bind(bind, |bind| tables.remembered(memo, bind)) {
        Remembered::Nothing => prop_assert!(decision.is_some()),
        Remembered::Unprotected => prop_assert_eq!(decision, None),
        Remembered::Answer(answer) => {
            tally.remembered += 1;
            let word = answer.word();
            let known = decision.map(|d| (d.verdict, d.rule, d.report, d.audit));
            let said = (word.verdict(), answer.rule(), word.report(), word.audit());
            prop_assert_eq!(Some(said), known, "{:?} under\n{}", bind, model.to_yaml());
            let enforced = model.enforce && !model.only_reports(tables.rule_name(answer.rule()));
            prop_assert_eq!(answer.enforced(), enforced);
            prop_assert!(class.acts() || !answer.acts());
        }
    }
    Ok(())
}

fn check_policy(
    model: &Model,
    binds: &[OracleBind],
    tally: &mut Tally,
) -> Result<(), TestCaseError> {
    let tables = tables_of(model);
    let Some(memo) = tables.memo() else {
        panic!("no memory");
    };
    let (ports, uids) = (ports(model), uids(model));
    for bind in binds {
        for port in &ports {
            let at_port = |bind: &OracleBind| OracleBind {
                port: *port,
                ..bind.clone()
            };
            check_bind(&tables, &memo, model, &at_port(bind), tally)?;
            for uid in &uids {
                let of_user = OracleBind {
                    uid: *uid,
                    euid: *uid,
                    ..at_port(bind)
                };
                check_bind(&tables, &memo, model, &of_user, tally)?;
            }
        }
    }
    Ok(())
}

/// The policy, and the same with rules that ask of the caller and the address one thing alone, which the memo knows.
fn narrowed(model: &Model) -> [Model; 4] {
    let kept = |users, cgroups, addresses| {
        let mut model = model.clone();
        for rule in &mut model.rules {
            rule.groups = None;
            rule.users = rule.users.take().filter(|_| users);
            rule.cgroups = rule.cgroups.take().filter(|_| cgroups);
            rule.units = rule.units.take().filter(|_| cgroups);
            rule.addresses = rule.addresses.take().filter(|_| addresses);
        }
        model
    };
    [
        model.clone(),
        kept(true, false, false),
        kept(false, true, false),
        kept(false, false, true),
    ]
}

#[test]
fn memo_says_what_decide_bind_says() {
    let tally = std::cell::RefCell::new(Tally::default());
    let (seed, mut runner) = runner(cases(1000).div_ceil(40));
    println!("PORTGUARD_SEED={seed}");
    let result = runner.run(
        &case(&GeneratorConfig::wide(), 0..=10, BINDS),
        |(model, binds)| {
            let models = narrowed(&model);
            let mut models = models.iter();
            models.try_for_each(|model| check_policy(model, &binds, &mut tally.borrow_mut()))
        },
    );
    if let Err(failure) = result {
        panic!("repeat with PORTGUARD_SEED={seed}\n{failure}");
    }
    let Tally { tried, remembered } = tally.into_inner();
    println!("{tried} binds, {remembered} of which the memo decided");
    assert!(remembered * 8 > tried, "the memo knows hardly anything");
}

fn memo_of(text: &str) -> (Tables, Box<Memo>) {
    let tables = compile(&parsed(text).policy).unwrap_or_else(|error| panic!("{error}"));
    let Some(memo) = tables.memo() else {
        panic!("no memory");
    };
    (tables, memo)
}

#[test]
fn memo_knows_ports_by_what_their_rules_ask() {
    let (_, memo) = memo_of(
        "{ version: 1, protect: [1-1023], rules: [
          { name: plain, action: allow, ports: [80], protocols: [tcp] },
          { name: user, action: allow, ports: [81], users: [33, \"1000-1999\"] },
          { name: cgroup, action: deny, ports: [82], cgroups: [/a] },
          { name: address, action: kernel, ports: [83], addresses: [127.0.0.1] },
          { name: group, action: allow, ports: [84], groups: [5] },
          { name: both, action: allow, ports: [85], users: [33], cgroups: [/a] } ] }",
    );
    let kind = |port: u16, protocol| memo.entry::<[Page]>(memo.class::<[Page]>(port), protocol);
    for (port, expected) in [
        (79, Kind::Alone),
        (80, Kind::Alone),
        (81, Kind::ByUser),
        (82, Kind::ByCgroup),
        (83, Kind::ByAddress),
        (84, Kind::General),
        (85, Kind::General),
    ] {
        let entry = kind(port, Protocol::Tcp);
        assert!(entry.is(expected), "port {port}: {entry:?}");
    }
    // A grant for TCP acts at its port, though not for UDP.
    assert!(kind(80, Protocol::Tcp).acts() && !kind(80, Protocol::Udp).acts());
    assert!(
        memo.class::<[Page]>(80).acts()
            && !memo.class::<[Page]>(79).acts()
            && !memo.class::<[Page]>(83).acts()
    );
    assert!(!memo.class::<[Page]>(1024).is_protected());
    let uid = |uid| {
        let answer: Answer = memo.answer_for_user::<[Page]>(kind(81, Protocol::Tcp), uid);
        answer.rule()
    };
    assert_eq!(
        [33, 34, 999, 1000, 1999, 2000].map(uid),
        [1, NO_RULE, NO_RULE, 1, 1, NO_RULE]
    );
}

/// The largest policies have no room for all answers; what has none is decided in the general way.
#[test]
fn memo_of_the_largest_policies_is_correct_as_far_as_it_goes() {
    for (users, cgroup) in [(16, false), (0, true)] {
        let mut text = "{ version: 1, protect: [1-5000], rules: [".to_owned();
        for rule in 0..4096u32 {
            let who = if cgroup {
                format!("cgroups: [/c/{rule}]")
            } else {
                let users = (0..users).map(|user| (100_000 + 40 * rule + 2 * user).to_string());
                format!("users: [{}]", users.collect::<Vec<_>>().join(", "))
            };
            text += &format!(
                "{{ name: r{rule}, action: allow, ports: [{}], {who} }},\n",
                rule + 1
            );
        }
        let (tables, memo) = memo_of(&(text + "] }"));
        let mut known = 0;
        for rule in 0..4096u32 {
            let name = rule.to_string();
            let bind = |uid, cgroup: &[&str]| {
                let bind = portguard_policy::compile::Bind {
                    port: rule as u16 + 1,
                    protocol: Protocol::Tcp,
                    uid,
                    euid: uid,
                    gids: &[],
                    setgid: None,
                    owners: &[],
                    cgroup,
                    address: std::net::Ipv4Addr::LOCALHOST.into(),
                    dual_stack: false,
                };
                let expected = tables.decide(&bind).map(|decision| decision.rule);
                match tables.remembered(&memo, &bind) {
                    Remembered::Answer(answer) => {
                        assert_eq!(Some(answer.rule()), expected);
                        1
                    }
                    Remembered::Nothing => 0,
                    Remembered::Unprotected => panic!("port {rule} is protected"),
                }
            };
            known += bind(100_000 + 40 * rule, &["c", &name]);
            known += bind(100_001 + 40 * rule, &["c", &name]);
        }
        assert!(known > 16, "{known}");
    }
}
