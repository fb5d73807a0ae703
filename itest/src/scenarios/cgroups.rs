//! Deep cgroups, long names, and callers that are moved while they bind.

use super::checks::{allow, default, deny, expect_decision};
use crate::harness::cgroups::{Cgroups, cgroup_root, enter, within};
use crate::harness::frozen::Frozen;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, SharedInstance, SharedTable, TestEnv};
use anyhow::{Context as _, ensure};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const TESTS: SharedTable = &[
    ("cgroups_deep", Needs::Nothing, cgroups_deep),
    (
        "cgroups_deep_are_recorded_once",
        Needs::Nothing,
        cgroups_deep_are_recorded_once,
    ),
    ("cgroups_long_names", Needs::Nothing, cgroups_long_names),
    (
        "cgroups_moved_during_bind",
        Needs::Nothing,
        cgroups_moved_during_bind,
    ),
];

/// A rule holds for all cgroups below, however deep. Where the path is too deep to be read, no `deny` is escaped and
/// no `allow` gained.
fn cgroups_deep(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let top = format!("pgdeep-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: not-here, action: deny, ports: [89], cgroups: [\"/{top}\"] }},
            {{ name: here, action: allow, ports: [90], cgroups: [\"/{top}\"] }},
            {{ name: web, action: allow, ports: [89, 999], users: [33] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let mut made = Cgroups::default();
    for (depth, allowed) in [
        (1, allow("here")),
        (32, allow("here")),
        (33, allow("here")),
        (100, allow("here")),
        (140, default("kernel").because("unresolved_cgroup")),
    ] {
        let mut path = vec![top.clone()];
        path.extend((1..depth).map(|_| "d".to_owned()));
        made.make(&path)?;
        let bind = |port| {
            let probe = Probe::user(33).bind(Attempt::tcp(port));
            probe.in_cgroup(path.join("/"))
        };
        expect_decision(env, instance, &bind(89), deny("not-here"))?;
        expect_decision(env, instance, &bind(90), allowed)?;
    }
    let outside = Probe::user(33).bind(Attempt::tcp(89));
    expect_decision(env, instance, &outside, allow("web"))?;
    Ok(())
}

/// Binds whose paths would not fit into the ring, if each were recorded.
const DEEP_BINDS: usize = 400;

/// A cgroup that is too deep for a `**` is walked once: its path does not take the ring from events.
fn cgroups_deep_are_recorded_once(
    env: &TestEnv,
    shared: &mut SharedInstance,
) -> anyhow::Result<()> {
    let top = format!("pgopen-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: open, action: allow, ports: [90], cgroups: [\"/{top}/**/elsewhere\"] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let mut path = vec![top];
    path.extend((1..40).map(|_| "d".to_owned()));
    let mut made = Cgroups::default();
    made.make(&path)?;
    let bind = Probe::user(33).in_cgroup(path.join("/"));
    let binds = (0..DEEP_BINDS).fold(bind, |probe, _| probe.bind(Attempt::tcp(90)));
    let frozen = Frozen::new(instance)?;
    binds.run()?;
    drop(frozen);
    let events = instance.events_of(&binds.comm)?;
    let unresolved = |event: &&serde_json::Value| event["reason"] == "unresolved_cgroup";
    let count = events.iter().filter(unresolved).count();
    ensure!(count == DEEP_BINDS, "{count} events of {DEEP_BINDS} binds");
    Ok(())
}

/// Names are compared in full, up to the longest that the kernel allows.
fn cgroups_long_names(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let name = format!("pglong-{}-{}", std::process::id(), "x".repeat(300));
    let (longest, shorter) = (&name[..255], &name[..254]);
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: longest, action: deny, ports: [89], cgroups: [\"/{longest}\"] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let mut made = Cgroups::default();
    for (name, verdict) in [(longest, deny("longest")), (shorter, default("kernel"))] {
        made.make(&[name.to_owned()])?;
        let probe = Probe::user(0).bind(Attempt::tcp(89));
        let event = expect_decision(env, instance, &probe.in_cgroup(name), verdict)?;
        ensure!(event["cgroup"] == format!("/{name}"), "{event}");
    }
    Ok(())
}

/// Cgroups that a process passes through. Before the id and the path came from one cgroup, about one in fifty got the
/// class of the cgroup that the process was moved to, for good.
const PASSED: usize = 1_000;
/// The same where the test is not whole: fewer than one run in fifty would have found none.
const PASSED_ELSEWHERE: usize = 250;

/// Threads that bind meanwhile: more than CPUs, so that one is stopped in the middle of a bind.
const BINDING: usize = 4;

/// Binds of some threads while another moves the process: the cgroup gets the class of its own path, and the event has
/// the cgroup that was decided on.
fn cgroups_moved_during_bind(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let top = format!("pgmove-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, log: deny, rules: [
            {{ name: not-here, action: deny, ports: [89], cgroups: [\"/{top}/denied\"] }},
            {{ name: last, action: allow, ports: [999], log: all }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let mut made = Cgroups::default();
    let mut denied = Vec::new();
    let passed = if env.repeats_fully() {
        PASSED
    } else {
        PASSED_ELSEWHERE
    };
    for number in 0..passed {
        let path = [top.clone(), "denied".into(), number.to_string()];
        made.make(&path)?;
        denied.push(cgroup_root()?.join(path.join("/")));
    }
    let lost = within(&[&top, "free"], || pass_through(&top, &denied))??;
    ensure!(
        lost.is_empty(),
        "{} of {passed} cgroups lost their denial: {lost:?}",
        lost.len()
    );
    for event in instance.events()? {
        let cgroup = event["cgroup"].as_str().unwrap_or_default();
        ensure!(cgroup.starts_with(&format!("/{top}/denied/")), "{event}");
    }
    Ok(())
}

/// Moves this process through all of `denied` while it binds; returns those in which it can bind afterwards.
fn pass_through(top: &str, denied: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let free = cgroup_root()?.join(top).join("free");
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 89));
    // The cgroup between two others is known before.
    bind().context("the free cgroup")?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..BINDING {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(bind());
                }
            });
        }
        let moved = denied.iter().try_for_each(|cgroup| {
            enter(cgroup, "cgroup.procs")?;
            enter(&free, "cgroup.procs")
        });
        done.store(true, Ordering::Relaxed);
        moved
    })?;
    let mut lost = Vec::new();
    for cgroup in denied {
        enter(cgroup, "cgroup.procs")?;
        if bind().is_ok() {
            lost.push(cgroup.clone());
        }
    }
    Ok(lost)
}
