//! The policies of the bench: each has the port that is bound in its last rule.

use super::measure::PROTECTED;
use crate::oracle::{Action, Logged, Model, ModelRule};

/// Ports of the rules that are only passed over lie from here on.
const OTHERS: u16 = 10_000;

/// The cgroup that the bench binds in where cgroups count.
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

/// So many rules, a port each. `kernel`, so that the kernel's own capability check is paid as in a bare bind.
pub(super) fn own_ports(rules: u16) -> Model {
    let others = (1..rules).map(|number| rule(number.into(), OTHERS + number));
    let last = rule(rules.into(), PROTECTED);
    model(others.chain([last]).collect())
}

/// One rule, with this action.
pub(super) fn one(action: Action) -> Model {
    let mut model = own_ports(1);
    for rule in &mut model.rules {
        rule.action = action;
    }
    model
}

/// One rule, every decision reported.
pub(super) fn reported() -> Model {
    Model {
        log: Logged::All,
        ..own_ports(1)
    }
}

/// So many rules on the one port, a user each; root's is the last.
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

/// So many rules on the one port, a cgroup each; the bench's is the last.
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
