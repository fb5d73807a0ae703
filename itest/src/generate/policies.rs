//! Random policies, alone or with binds to try under them.

use super::binds::{aim, binds};
use super::config::GeneratorConfig;
use super::fields::{self, span, unique};
use crate::oracle::{Action, Logged, Model, ModelRule, OracleBind, Span};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use std::ops::RangeInclusive;

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Allow, Action::Deny, Action::Kernel])
}

/// A rule without a name.
fn rule(config: &GeneratorConfig) -> impl Strategy<Value = ModelRule> + use<> {
    let plain = (
        action(),
        weighted(0.9, vec(span(config.port()), 1..=4)),
        weighted(0.3, vec(select(config.protocols.clone()), 1..=2)),
        weighted(0.6, vec(span(config.uid()), 1..=4)),
        weighted(0.35, vec(fields::pattern(config), 1..=3)),
    );
    (plain, fields::further(config)).prop_map(|(plain, further)| {
        let (action, ports, protocols, users, cgroups) = plain;
        ModelRule {
            action,
            ports: ports.map(unique),
            protocols: protocols.map(unique),
            users: users.map(unique),
            cgroups: cgroups.map(unique),
            errno: further.errno.filter(|_| action == Action::Deny),
            ..further
        }
    })
}

fn protect(config: &GeneratorConfig) -> BoxedStrategy<Vec<Span<u16>>> {
    prop_oneof![
        4 => Just(vec![(1, 1023)]),
        2 => Just(vec![(1, u16::MAX)]),
        2 => vec(span(config.port()), 1..=4).prop_map(unique),
    ]
    .boxed()
}

/// A policy with this many rules.
pub fn model(
    config: &GeneratorConfig,
    rules: RangeInclusive<usize>,
) -> impl Strategy<Value = Model> + use<> {
    (
        any::<bool>(),
        select(vec![Action::Kernel, Action::Deny]),
        protect(config),
        select(vec![Logged::All, Logged::Deny, Logged::None]),
        vec(rule(config), rules),
    )
        .prop_map(|(enforce, default, protect, log, rules)| Model {
            enforce,
            default,
            protect,
            log,
            rules: named(rules),
        })
}

/// A policy with this many rules, and binds to try under it.
pub fn case(
    config: &GeneratorConfig,
    rules: RangeInclusive<usize>,
    tries: usize,
) -> impl Strategy<Value = (Model, Vec<OracleBind>)> + use<> {
    let config = config.clone();
    (model(&config, rules), vec(aim(&config), tries)).prop_map(move |(model, aims)| {
        let binds = binds(&config, &model, &aims);
        (model, binds)
    })
}

/// A policy whose rules name one port, one user and one cgroup each: a bind of values from several rules matches few
/// of them or none, so that late rules decide.
pub fn sparse_case(
    rules: RangeInclusive<usize>,
    tries: usize,
) -> impl Strategy<Value = (Model, Vec<OracleBind>)> {
    let config = GeneratorConfig {
        ports: (75..85).collect(),
        // The intervals of 400 users take two pages.
        uids: (0..400).map(|n| 1000 + 3 * n).collect(),
        names: ["a", "b"].map(str::to_owned).to_vec(),
        depth: 1,
        beyond: false,
        ..GeneratorConfig::wide()
    };
    let one = (action(), config.port(), config.uid(), config.path());
    let rule = one.prop_map(|(action, port, uid, path)| ModelRule {
        ports: Some(vec![(port, port)]),
        users: Some(vec![(uid, uid)]),
        cgroups: Some(vec![path]),
        ..ModelRule::new(String::new(), action)
    });
    (vec(rule, rules), vec(aim(&config), tries)).prop_map(move |(rules, aims)| {
        let model = Model {
            enforce: true,
            default: Action::Kernel,
            protect: vec![(1, 1023)],
            log: Logged::All,
            rules: named(rules),
        };
        let binds = binds(&config, &model, &aims);
        (model, binds)
    })
}

fn named(mut rules: Vec<ModelRule>) -> Vec<ModelRule> {
    for (number, rule) in rules.iter_mut().enumerate() {
        rule.name = format!("rule-{number}");
    }
    rules
}
