//! `portguard-itest bench`: what portguard adds to a bind(2), beside an empty LSM program and Landlock.
//!
//! Meant for a guest of one CPU under `-icount shift=0`, where the figures are instructions and repeat
//! to a few in a thousand. Everything is a ratio to a bare bind of the same boot. A row is
//! `bench: ROW<TAB>INSTRUCTIONS<TAB>RATIO<TAB>TARGET<TAB>BARE`, where BARE is the cost of a bare bind, and `-` in rows that do
//! not measure portguard. A missed target is not a failure here.

mod measure;
mod policies;
mod rivals;

use crate::daemon::Daemon;
use crate::oracle::{Action, Model};
use measure::{OUTSIDE, PROTECTED, cost, cost_after};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// Domains of so many ports are measured.
const LANDLOCK_PORTS: [u16; 3] = [1, 1000, 4096];

/// The verb `bench`; `bench landlock PORTS` is the part of it that needs a process of its own.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    match args {
        [] => all(),
        [verb, ports] if verb == "landlock" => rivals::in_landlock(ports.parse()?),
        _ => anyhow::bail!("bench takes no arguments"),
    }
}

/// What there is to compare with; what could not be had is absent.
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

/// Prints a row.
fn row(name: &str, insns: f64, bare: f64, target: &str) {
    let ratio = insns / bare;
    println!("bench: {name}\t{insns:.0}\t{ratio:.3}\t{target}\t{bare:.0}");
}

/// Prints a row that does not measure portguard.
fn yardstick(name: &str, insns: f64, bare: f64) {
    println!("bench: {name}\t{insns:.0}\t{:.3}\t\t-", insns / bare);
}

/// The figure, or a line that says why there is none.
fn known<T>(name: &str, figure: anyhow::Result<T>) -> Option<T> {
    figure
        .inspect_err(|error| println!("bench: {name}\t-\t-\tnot measured: {error:#}"))
        .ok()
}

fn yardsticks() -> anyhow::Result<Yardsticks> {
    let bare = cost(PROTECTED, Ok(()))?;
    yardstick("bare bind", bare, bare);
    let bare_outside = cost(OUTSIDE, Ok(()))?;
    yardstick("bare bind, port not privileged", bare_outside, bare_outside);
    let empty = known("empty LSM program", rivals::empty_program());
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
        known(&name, rivals::landlock(ports)).inspect(|insns| yardstick(&name, *insns, bare))
    });
    Ok(Yardsticks {
        bare,
        bare_outside,
        empty_outside: empty.map(|(_, outside)| outside),
        landlock,
    })
}

/// Runs portguard with a policy, whose file is to be kept as long.
fn start(model: &Model) -> anyhow::Result<(NamedTempFile, Daemon)> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), model.to_yaml())?;
    let daemon = Daemon::start(file.path())?;
    Ok((file, daemon))
}

/// Measures with portguard running, its daemon stopped.
fn under(model: &Model, port: u16, wanted: Result<(), Errno>) -> anyhow::Result<f64> {
    let (_file, daemon) = start(model)?;
    daemon.frozen(|| cost(port, wanted))
}

/// "no more than" a figure, where that is known.
fn at_most(limit: Option<f64>, which: &str) -> String {
    match limit {
        Some(limit) => format!("<= {limit:.0} ({which})"),
        None => format!("<= {which}"),
    }
}

/// Binds that make no event.
fn silent_rows(yard: &Yardsticks) {
    let quiet = |name: &str, model: &Model, target: &str| {
        known(name, under(model, PROTECTED, Ok(())))
            .inspect(|insns| row(name, *insns, yard.bare, target))
    };
    let outside = "outside protect";
    if let Some(insns) = known(outside, under(&policies::own_ports(1), OUTSIDE, Ok(()))) {
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
    if let Some(insns) = known(refused, denied) {
        row(refused, insns, yard.bare, "");
    }
}

/// Binds in a cgroup that the last rule names.
fn cgroup_rows(yard: &Yardsticks) {
    let figures = crate::harness::bind_runner::within(policies::CGROUP, || {
        for rules in [1, 1000, 4096] {
            let name = format!("no event, rules by cgroup: {rules}");
            let figure = under(&policies::cgroups(rules), PROTECTED, Ok(()));
            if let Some(insns) = known(&name, figure) {
                row(&name, insns, yard.bare, "");
            }
        }
    });
    known("no event, rules by cgroup", figures);
}

/// Binds that are reported.
fn event_rows(yard: &Yardsticks) {
    let target = at_most(Some(yard.bare * 1.4), "1.4 x bare");
    let name = "with event, daemon behind";
    if let Some(insns) = known(name, under(&policies::reported(), PROTECTED, Ok(()))) {
        row(name, insns, yard.bare, &target);
    }
    // The ring is empty at each bind, so each wakes whoever waits for it.
    let name = "with event, ring empty";
    if let Some(insns) = known(name, caught_up()) {
        row(name, insns, yard.bare, &target);
    }
}

fn caught_up() -> anyhow::Result<f64> {
    let (_file, daemon) = start(&policies::reported())?;
    // A daemon that is gone makes no figure wrong silently: its program is gone too, and the ratio shows it.
    cost_after(PROTECTED, Ok(()), || drop(daemon.catch_up()))
}
