//! `portguard-itest bench`: the cost of portguard in a bind(2), beside an empty LSM program and Landlock.
//!
//! For a guest of one CPU under `-icount shift=0`, where figures are instructions and repeat to a few in a
//! thousand. Each is also given as a ratio to a bare bind of the same boot. A row is
//! `bench: ROW<TAB>INSTRUCTIONS<TAB>RATIO<TAB>TARGET<TAB>BARE`, where BARE is the cost of a bare bind, and `-` in rows
//! that do not measure portguard. A missed target is not a failure.

mod measure;
mod policies;
mod rivals;

use crate::harness::cgroups::within;
use crate::harness::frozen::Frozen;
use crate::harness::instance::Instance;
use crate::harness::{Kind, TestEnv};
use crate::oracle::{Action, Model};
use measure::{OUTSIDE, PROTECTED, cost, cost_after};
use rustix::io::Errno;

/// The numbers of ports of the Landlock domains.
const LANDLOCK_PORTS: [u16; 3] = [1, 1000, 4096];

/// The verb `bench`; `bench landlock PORTS` is the part that needs its own process.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    match args {
        [] => all(),
        [verb, ports] if verb == "landlock" => rivals::in_landlock(ports.parse()?),
        _ => anyhow::bail!("bench takes no arguments"),
    }
}

/// The figures to compare with, as far as they could be measured.
struct Yardsticks {
    bare: f64,
    bare_outside: f64,
    empty_outside: Option<f64>,
    landlock: [Option<f64>; LANDLOCK_PORTS.len()],
}

fn all() -> anyhow::Result<()> {
    let yard = yardsticks()?;
    silent_rows(&yard);
    cgroup_rows(&yard);
    event_rows(&yard);
    Ok(())
}

fn row(name: &str, insns: f64, bare: f64, target: &str) {
    let ratio = insns / bare;
    println!("bench: {name}\t{insns:.0}\t{ratio:.3}\t{target}\t{bare:.0}");
}

/// Prints a row that does not measure portguard.
fn yardstick(name: &str, insns: f64, bare: f64) {
    println!("bench: {name}\t{insns:.0}\t{:.3}\t\t-", insns / bare);
}

/// The figure; or prints a row with the reason why there is none.
fn measured<T>(name: &str, figure: anyhow::Result<T>) -> Option<T> {
    figure
        .inspect_err(|error| println!("bench: {name}\t-\t-\tnot measured: {error:#}"))
        .ok()
}

fn yardsticks() -> anyhow::Result<Yardsticks> {
    let bare = cost(PROTECTED, Ok(()))?;
    yardstick("bare bind", bare, bare);
    let bare_outside = cost(OUTSIDE, Ok(()))?;
    yardstick("bare bind, port not privileged", bare_outside, bare_outside);
    let empty = measured("empty LSM program", rivals::empty_program());
    if let Some((protected, outside)) = empty {
        yardstick("empty LSM program", protected, bare);
        yardstick(
            "empty LSM program, port not privileged",
            outside,
            bare_outside,
        );
    }
    let landlock = LANDLOCK_PORTS.map(|ports| {
        let name = format!("Landlock, ports: {ports}");
        measured(&name, rivals::landlock(ports)).inspect(|insns| yardstick(&name, *insns, bare))
    });
    Ok(Yardsticks {
        bare,
        bare_outside,
        empty_outside: empty.map(|(_, outside)| outside),
        landlock,
    })
}

fn start(model: &Model) -> anyhow::Result<Instance> {
    Instance::start(&TestEnv::new(Kind::Guest)?, &model.to_yaml())
}

/// Measures while portguard enforces a policy and its daemon is stopped.
fn under(model: &Model, port: u16, expected: Result<(), Errno>) -> anyhow::Result<f64> {
    let instance = start(model)?;
    let _frozen = Frozen::new(&instance)?;
    cost(port, expected)
}

/// The target "no more than" a figure, if that is known.
fn at_most(limit: Option<f64>, which: &str) -> String {
    match limit {
        Some(limit) => format!("<= {limit:.0} ({which})"),
        None => format!("<= {which}"),
    }
}

/// Binds without an event.
fn silent_rows(yard: &Yardsticks) {
    let quiet = |name: &str, model: &Model, target: &str| {
        measured(name, under(model, PROTECTED, Ok(())))
            .inspect(|insns| row(name, *insns, yard.bare, target))
    };
    let outside = "outside protect";
    if let Some(insns) = measured(outside, under(&policies::own_ports(1), OUTSIDE, Ok(()))) {
        let limit = at_most(yard.empty_outside.map(|e| e + 60.0), "empty LSM + 60");
        row(outside, insns, yard.bare_outside, &limit);
    }
    let mut one = None;
    for (rules, rival) in [1, 1000, 4096].into_iter().zip(yard.landlock) {
        let target = at_most(rival, &format!("Landlock, ports: {rules}"));
        let name = format!("no event, rules: {rules}");
        let insns = quiet(&name, &policies::own_ports(rules), &target);
        one = one.or(insns);
    }
    let target = at_most(one.map(|one| one * 1.1), "1.1 x one rule");
    quiet(
        "no event, 4096 rules on the port, the last matches",
        &policies::one_port(4096),
        &target,
    );
    quiet("no event, a grant", &policies::one(Action::Allow), "");
    let refused = "no event, a denial";
    let denied = under(&policies::one(Action::Deny), PROTECTED, Err(Errno::ACCESS));
    if let Some(insns) = measured(refused, denied) {
        row(refused, insns, yard.bare, "");
    }
}

/// Binds in the cgroup of the last rule.
fn cgroup_rows(yard: &Yardsticks) {
    let figures = within(policies::CGROUP, || {
        for rules in [1, 1000, 4096] {
            let name = format!("no event, rules by cgroup: {rules}");
            let figure = under(&policies::cgroups(rules), PROTECTED, Ok(()));
            if let Some(insns) = measured(&name, figure) {
                row(&name, insns, yard.bare, "");
            }
        }
    });
    measured("no event, rules by cgroup", figures);
}

/// Binds with an event.
fn event_rows(yard: &Yardsticks) {
    let target = at_most(Some(yard.bare * 1.4), "1.4 x bare");
    let name = "with event, daemon behind";
    if let Some(insns) = measured(name, under(&policies::reported(), PROTECTED, Ok(()))) {
        row(name, insns, yard.bare, &target);
    }
    // The ring buffer is empty at each bind, so each event wakes the daemon.
    let name = "with event, ring empty";
    if let Some(insns) = measured(name, caught_up()) {
        row(name, insns, yard.bare, &target);
    }
}

fn caught_up() -> anyhow::Result<f64> {
    let instance = start(&policies::reported())?;
    let frozen = Frozen::new(&instance)?;
    // If the daemon is gone, so is its program, and the ratio shows it.
    cost_after(PROTECTED, Ok(()), || drop(frozen.catch_up()))
}
