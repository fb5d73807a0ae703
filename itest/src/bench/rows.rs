//! The rows that measure portguard.

use super::measure::{BINDS, OUTSIDE, PROTECTED, cost, cost_of};
use super::policies::{self, By};
use super::rivals::Cost;
use super::{SIZES, SYSTEMD_RULES, Yardsticks, measured, row};
use crate::harness::cgroups::within;
use crate::harness::foreign_links::detach_cgroup_links;
use crate::harness::frozen::Frozen;
use crate::harness::instance::Instance;
use crate::harness::{Kind, TestEnv};
use crate::oracle::{Action, Model};
use rustix::io::Errno;

/// The programs that are attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Programs {
    /// Those of the LSM alone, as for a policy that grants nothing.
    Lsm,
    /// Those of the cgroup tree too. The policy has a grant for another port.
    Both,
}

impl Programs {
    const ALL: [Self; 2] = [Self::Lsm, Self::Both];

    const fn name(self) -> &'static str {
        match self {
            Self::Lsm => "LSM alone",
            Self::Both => "both programs",
        }
    }
}

/// A daemon with these programs and this policy. A decision has its own event unless it `folds`.
fn start(model: Model, programs: Programs, folds: bool) -> anyhow::Result<Instance> {
    let model = match programs {
        Programs::Lsm => model,
        Programs::Both => policies::with_grant(model),
    };
    let mut arguments = vec!["--output", "json", "--check-every", "3600"];
    if !folds {
        arguments.push("--no-fold");
    }
    let env = TestEnv::new(Kind::Guest)?;
    let instance = Instance::start_by(&env, &model.to_yaml(), "lsm", &arguments)?;
    if programs == Programs::Lsm {
        detach_cgroup_links()?;
    }
    Ok(instance)
}

/// Measures binds of a port while portguard enforces a policy and its daemon is stopped.
fn under(model: Model, programs: Programs, port: u16) -> anyhow::Result<f64> {
    let instance = start(model, programs, false)?;
    let _frozen = Frozen::new(&instance)?;
    cost(port, Ok(()))
}

/// The target "no more than" a figure, if that is known.
fn at_most(limit: Option<f64>, which: &str) -> String {
    match limit {
        Some(limit) => format!("<= {limit:.0} ({which})"),
        None => format!("<= {which}"),
    }
}

impl Yardsticks {
    fn times_bare(&self, factor: f64) -> String {
        at_most(
            Some(self.bare.protected * factor),
            &format!("{factor} x bare"),
        )
    }

    fn above_empty(&self, programs: Programs, more: f64, part: fn(Cost) -> f64) -> String {
        let (empty, name) = match programs {
            Programs::Lsm => (self.empty_lsm, "empty LSM"),
            Programs::Both => (self.both_empty, "both empty"),
        };
        at_most(
            empty.map(|cost| part(cost) + more),
            &format!("{name} + {more}"),
        )
    }

    /// Prints the row of a bind of a protected port.
    fn row(&self, name: &str, figure: anyhow::Result<f64>, target: &str) {
        if let Some(insns) = measured(name, figure) {
            row(name, insns, self.bare.protected, target);
        }
    }
}

/// Measures and prints all rows.
pub(super) fn all(yard: &Yardsticks) {
    outside(yard);
    by_port(yard);
    by_user(yard);
    by_other_fields(yard);
    decided_otherwise(yard);
    events(yard);
    folds(yard);
}

fn outside(yard: &Yardsticks) {
    for (programs, more) in [(Programs::Lsm, 60.0), (Programs::Both, 90.0)] {
        let name = format!("outside protect, {}", programs.name());
        if let Some(insns) = measured(&name, under(policies::own_ports(1), programs, OUTSIDE)) {
            let target = yard.above_empty(programs, more, |cost| cost.outside);
            row(&name, insns, yard.bare.outside, &target);
        }
    }
}

/// Decisions by port, without an event.
fn by_port(yard: &Yardsticks) {
    for (rules, rival) in SIZES.into_iter().zip(yard.landlock) {
        let target = at_most(rival, &format!("Landlock, ports: {rules}"));
        let name = format!("no event, rules: {rules}, LSM alone");
        let figure = under(policies::own_ports(rules), Programs::Lsm, PROTECTED);
        yard.row(&name, figure, &target);
    }
    for rules in SYSTEMD_RULES {
        // As many as systemd's program has, beside which they stand.
        if rules > 1 {
            let name = format!("no event, rules: {rules}, LSM alone");
            let figure = under(policies::own_ports(rules as u16), Programs::Lsm, PROTECTED);
            yard.row(&name, figure, "systemd's SocketBindAllow=");
        }
    }
    let target = yard.above_empty(Programs::Both, 190.0, |cost| cost.protected);
    for rules in [1, 4096] {
        let name = format!("no event, rules: {rules}, both programs");
        // The grant is a rule too, and 4,096 are the most.
        let model = policies::own_ports(rules.min(4095));
        yard.row(&name, under(model, Programs::Both, PROTECTED), &target);
    }
}

/// Decisions by port and user, without an event.
fn by_user(yard: &Yardsticks) {
    for (users, factor) in [(1, 1.16), (8, 1.19), (64, 1.22)] {
        for programs in Programs::ALL {
            let name = format!("no event, users: {users}, {}", programs.name());
            let target = match programs {
                Programs::Lsm => yard.times_bare(factor),
                Programs::Both => String::new(),
            };
            let figure = under(policies::users(users), programs, PROTECTED);
            yard.row(&name, figure, &target);
        }
    }
    let figure = under(policies::one_port(4096), Programs::Lsm, PROTECTED);
    let name = "no event, 4096 rules and users on the port, LSM alone";
    yard.row(name, figure, &yard.times_bare(1.27));
}

/// Decisions by the fields that are asked for last.
fn by_other_fields(yard: &Yardsticks) {
    let figures = within(policies::CGROUP, || {
        for by in By::ALL {
            for (programs, factor) in [(Programs::Lsm, 1.3), (Programs::Both, 1.55)] {
                for rules in [1, 4095] {
                    let by_name = by.name();
                    let name =
                        format!("no event, rules by {by_name}: {rules}, {}", programs.name());
                    let figure = under(policies::by_field(by, rules), programs, PROTECTED);
                    yard.row(&name, figure, &yard.times_bare(factor));
                }
            }
        }
    });
    measured("no event, rules by cgroup", figures);
}

/// Verdicts that the kernel alone would not reach.
fn decided_otherwise(yard: &Yardsticks) {
    let grant = under(policies::one(Action::Allow), Programs::Both, PROTECTED);
    let target = yard.above_empty(Programs::Both, 285.0, |cost| cost.protected);
    yard.row("no event, a grant", grant, &target);
    let denied = || {
        let instance = start(policies::one(Action::Deny), Programs::Lsm, false)?;
        let _frozen = Frozen::new(&instance)?;
        cost(PROTECTED, Err(Errno::ACCESS))
    };
    yard.row("no event, a denial", denied(), &at_most(None, "880"));
}

/// Binds with an event of their own.
fn events(yard: &Yardsticks) {
    for (programs, factor) in [(Programs::Lsm, 1.36), (Programs::Both, 1.52)] {
        let name = format!("with event, daemon behind, {}", programs.name());
        let figure = under(policies::reported(), programs, PROTECTED);
        yard.row(&name, figure, &yard.times_bare(factor));
    }
    for programs in Programs::ALL {
        let name = format!("with event, ring empty, {}", programs.name());
        let target = match programs {
            Programs::Lsm => yard.times_bare(1.6),
            Programs::Both => String::new(),
        };
        yard.row(&name, caught_up(programs), &target);
    }
}

/// The ring buffer is empty at each bind, so each event wakes the daemon.
fn caught_up(programs: Programs) -> anyhow::Result<f64> {
    let instance = start(policies::reported(), programs, false)?;
    let frozen = Frozen::new(&instance)?;
    // If the daemon is gone, so is its program, and the ratio shows it.
    let port = |_| {
        drop(frozen.catch_up());
        PROTECTED
    };
    cost_of(port, Ok(()))
}

/// Equal decisions that become one event, as they do by default.
fn folds(yard: &Yardsticks) {
    let folded = |port: fn(usize) -> u16| {
        let instance = start(policies::reported_range(), Programs::Lsm, true)?;
        let _frozen = Frozen::new(&instance)?;
        cost_of(port, Ok(()))
    };
    // A port of its own for each bind, so that none was seen before.
    let first = folded(|round| PROTECTED + (round % (BINDS + 1)) as u16);
    let name = "folded, the first of a window, LSM alone";
    yard.row(name, first, &yard.times_bare(1.4));
    let others = folded(|_| PROTECTED);
    let name = "folded, the others of a window, LSM alone";
    yard.row(name, others, &yard.times_bare(1.22));
}
