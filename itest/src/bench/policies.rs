//! The policies of the bench: the last rule of each matches the bind.

use super::measure::PROTECTED;
use crate::oracle::{Action, Logged, Model, ModelRule, Net};
use std::net::{IpAddr, Ipv4Addr};

/// The first port of the rules that do not match.
const OTHERS: u16 = 10_000;

/// The port that is granted where only the programs for it matter.
const GRANTED: u16 = 1;

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

/// The same with a rule for all protected ports from [`PROTECTED`] on.
pub(super) fn reported_range() -> Model {
    let mut model = reported();
    for rule in &mut model.rules {
        rule.ports = Some(vec![(PROTECTED, 1023)]);
    }
    model
}

/// One rule that names this many users, root among them.
pub(super) fn users(users: u32) -> Model {
    let mut model = own_ports(1);
    for rule in &mut model.rules {
        let others = (1..users).map(|number| 100_000 + 2 * number);
        rule.users = Some(others.chain([0]).map(|user| (user, user)).collect());
    }
    model
}

/// The same policy with a rule that grants another port: then the cgroup programs have something to do.
pub(super) fn with_grant(mut model: Model) -> Model {
    let grant = ModelRule {
        ports: Some(vec![(GRANTED, GRANTED)]),
        ..ModelRule::new("grant".to_owned(), Action::Allow)
    };
    model.rules.insert(0, grant);
    model
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

/// A field that only the general way of a decision asks for.
#[derive(Clone, Copy)]
pub(super) enum By {
    Cgroup,
    Group,
    Address,
}

impl By {
    pub(super) const ALL: [Self; 3] = [Self::Cgroup, Self::Group, Self::Address];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Group => "group",
            Self::Address => "address",
        }
    }
}

/// This many rules of one port with a value of this field each; that of the bench is in the last.
pub(super) fn by_field(by: By, rules: u32) -> Model {
    let mut model = own_ports(0);
    model.rules = (1..=rules)
        .map(|number| {
            let last = number == rules;
            let mut rule = rule(number as usize, PROTECTED);
            match by {
                By::Cgroup => {
                    let leaf = if last {
                        "worker".to_owned()
                    } else {
                        format!("other-{number}")
                    };
                    rule.cgroups = Some(vec![vec!["portguard-bench".to_owned(), leaf]]);
                }
                By::Group => {
                    let group = if last { 0 } else { 100_000 + 2 * number };
                    rule.groups = Some(vec![(group, group)]);
                }
                By::Address => {
                    let address = if last {
                        Ipv4Addr::LOCALHOST
                    } else {
                        Ipv4Addr::from_bits(0x0a00_0000 + number)
                    };
                    rule.addresses = Some(vec![Net(IpAddr::V4(address), 32)]);
                }
            }
            rule
        })
        .collect();
    model
}
