//! The policies of the bench: the last rule of each matches the bind.

use super::measure::PROTECTED;
use crate::oracle::{Action, Logged, Model, ModelRule};

/// The first port of the rules that do not match.
const OTHERS: u16 = 10_000;

/// The cgroup of binds that are decided by cgroup.
pub(super) const CGROUP: &[&str] = &["portguard-bench", "worker"];

fn rule(number: usize, port: u16) -> ModelRule {
    ModelRule {
        ports: Some(vec![(port, port)]),
        ..ModelRule::new(format!("rule-{number}"), Action::Kernel)
    }
}

fn model(rules: Vec<ModelRule>) -> Model {
    Model {
        enforce: true,
        default: Action::Kernel,
        protect: vec![(1, 1023), (OTHERS, OTHERS + 4095)],
        log: Logged::None,
        rules,
    }
}

/// This many rules with a port each. `kernel`, so that the kernel checks the capability as in a bare bind.
pub(super) fn own_ports(rules: u16) -> Model {
    let others = (1..rules).map(|number| rule(number.into(), OTHERS + number));
    let last = rule(rules.into(), PROTECTED);
    model(others.chain([last]).collect())
}

/// One rule with this action.
pub(super) fn one(action: Action) -> Model {
    let mut model = own_ports(1);
    for rule in &mut model.rules {
        rule.action = action;
    }
    model
}

/// One rule; every decision is reported.
pub(super) fn reported() -> Model {
    Model {
        log: Logged::All,
        ..own_ports(1)
    }
}

/// This many rules of one port with a user each; root is in the last.
pub(super) fn one_port(rules: u32) -> Model {
    let mut model = own_ports(0);
    model.rules = (1..=rules)
        .map(|number| {
            let user = if number == rules {
                0
            } else {
                100_000 + 2 * number
            };
            ModelRule {
                users: Some(vec![(user, user)]),
                ..rule(number as usize, PROTECTED)
            }
        })
        .collect();
    model
}

/// This many rules of one port with a cgroup each; that of the bench is in the last.
pub(super) fn cgroups(rules: usize) -> Model {
    let mut model = own_ports(0);
    model.rules = (1..=rules)
        .map(|number| {
            let leaf = if number == rules {
                "worker".to_owned()
            } else {
                format!("other-{number}")
            };
            ModelRule {
                cgroups: Some(vec![vec!["portguard-bench".to_owned(), leaf]]),
                ..rule(number, PROTECTED)
            }
        })
        .collect();
    model
}
