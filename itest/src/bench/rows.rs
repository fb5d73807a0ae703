//! The rows that measure portguard.

use super::measure::{BINDS, OUTSIDE, PROTECTED, cost, cost_of};
use super::policies::{self, By};
use super::rivals::Cost;
use super::session::{Programs, Session};
use super::{SIZES, SYSTEMD_RULES, Yardsticks, measured, row};
use crate::harness::cgroups::within;
use crate::harness::frozen::Frozen;
use crate::oracle::{Action, Model};
use rustix::io::Errno;

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
}

/// The rows of one daemon.
struct Rows<'a> {
    yard: &'a Yardsticks,
    session: Session,
}

/// Measures and prints all rows.
pub(super) fn all(yard: &Yardsticks) {
    let rows = |programs, folds| Rows {
        yard,
        session: Session::new(programs, folds),
    };
    let mut lsm = rows(Programs::Lsm, false);
    lsm.outside(60.0);
    lsm.by_port();
    lsm.by_user(&[(1, 1.16), (8, 1.19), (64, 1.22)]);
    let name = "no event, 4096 rules and users on the port";
    lsm.bind(name, policies::one_port(4096), &yard.times_bare(1.27));
    lsm.by_other_fields(1.3);
    lsm.denial();
    lsm.events(1.36, &yard.times_bare(1.6));
    drop(lsm);
    rows(Programs::Lsm, true).folds();
    let mut both = rows(Programs::Both, false);
    both.outside(90.0);
    both.by_port_beside_a_grant();
    both.by_user(&[(1, 1.55), (8, 1.55), (64, 1.55)]);
    both.by_other_fields(1.55);
    both.grant();
    both.events(1.52, "");
}

impl Rows<'_> {
    /// Measures and prints a row, unless the bench is for others only.
    fn row(
        &mut self,
        name: &str,
        model: Model,
        target: &str,
        measure: impl FnOnce(&Frozen<'_>) -> anyhow::Result<f64>,
    ) {
        let name = format!("{name}, {}", self.session.programs.name());
        let outside = name.starts_with("outside");
        if !self.yard.wants(&name) {
            return;
        }
        if let Some(insns) = measured(&name, self.session.under(model, measure)) {
            let bare = if outside {
                self.yard.bare.outside
            } else {
                self.yard.bare.protected
            };
            row(&name, insns, bare, target);
        }
    }

    /// The row of a bind of the protected port.
    fn bind(&mut self, name: &str, model: Model, target: &str) {
        self.row(name, model, target, |_| cost(PROTECTED, Ok(())));
    }

    fn outside(&mut self, more: f64) {
        let programs = self.session.programs;
        let target = self.yard.above_empty(programs, more, |cost| cost.outside);
        let model = policies::own_ports(1);
        self.row("outside protect", model, &target, |_| cost(OUTSIDE, Ok(())));
    }

    /// Decisions by port, without an event.
    fn by_port(&mut self) {
        for (rules, rival) in SIZES.into_iter().zip(self.yard.landlock) {
            let target = at_most(rival, &format!("Landlock, ports: {rules}"));
            let name = format!("no event, rules: {rules}");
            self.bind(&name, policies::own_ports(rules), &target);
        }
        for (rules, rival) in SYSTEMD_RULES.into_iter().zip(self.yard.systemd) {
            // As many as systemd's program has, beside which they stand.
            if rules > 1 {
                let name = format!("no event, rules: {rules}");
                let target = at_most(rival, &format!("SocketBindAllow=, rules: {rules}"));
                self.bind(&name, policies::own_ports(rules), &target);
            }
        }
    }

    fn by_port_beside_a_grant(&mut self) {
        let target = self
            .yard
            .above_empty(Programs::Both, 190.0, |cost| cost.protected);
        // The grant is a rule too, and 4,096 are the most.
        for rules in [1, 4095] {
            let name = format!("no event, rules: {rules}");
            self.bind(&name, policies::own_ports(rules), &target);
        }
    }

    /// Decisions by port and user, without an event.
    fn by_user(&mut self, factors: &[(u32, f64)]) {
        for (users, factor) in factors {
            let target = self.yard.times_bare(*factor);
            let name = format!("no event, users: {users}");
            self.bind(&name, policies::users(*users), &target);
        }
    }

    /// Decisions by the fields that are asked for last.
    fn by_other_fields(&mut self, factor: f64) {
        let target = self.yard.times_bare(factor);
        let figures = within(policies::CGROUP, || {
            for by in By::ALL {
                for rules in [1, 4095] {
                    let name = format!("no event, rules by {}: {rules}", by.name());
                    self.bind(&name, policies::by_field(by, rules), &target);
                }
            }
        });
        measured("no event, rules by cgroup", figures);
    }

    fn denial(&mut self) {
        let target = at_most(None, "880");
        self.row(
            "no event, a denial",
            policies::one(Action::Deny),
            &target,
            |_| cost(PROTECTED, Err(Errno::ACCESS)),
        );
    }

    fn grant(&mut self) {
        let target = self
            .yard
            .above_empty(Programs::Both, 285.0, |cost| cost.protected);
        self.bind("no event, a grant", policies::one(Action::Allow), &target);
    }

    /// Binds with an event of their own.
    fn events(&mut self, factor: f64, target_of_a_wake: &str) {
        let target = self.yard.times_bare(factor);
        self.bind("with event, daemon behind", policies::reported(), &target);
        // The ring buffer is empty at each bind, so each event wakes the daemon.
        self.row(
            "with event, ring empty",
            policies::reported(),
            target_of_a_wake,
            |frozen| {
                let port = |_| {
                    // If the daemon is gone, so is its program, and the ratio shows it.
                    drop(frozen.catch_up());
                    PROTECTED
                };
                cost_of(port, Ok(()))
            },
        );
    }

    /// Equal decisions that become one event, as they do by default.
    fn folds(&mut self) {
        let target = self.yard.times_bare(1.4);
        let name = "folded, the first of a window";
        self.row(name, policies::reported_range(), &target, |_| {
            // A port of its own for each bind, so that none was seen before.
            cost_of(|round| PROTECTED + (round % (BINDS + 1)) as u16, Ok(()))
        });
        let target = self.yard.times_bare(1.22);
        let name = "folded, the others of a window";
        self.bind(name, policies::reported_range(), &target);
    }
}
