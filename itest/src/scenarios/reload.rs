//! Reloads: a new policy is in force as a whole or not at all.

use super::checks::{default, deny, expect_decision};
use crate::harness::Table;
use crate::harness::instance::Instance;
use crate::harness::lines::DEADLINE;
use crate::harness::probe::{Attempt, BindResult, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    (
        "reload_is_all_or_nothing",
        Needs::Nothing,
        reload_is_all_or_nothing,
    ),
    ("reload_storm", Needs::Nothing, reload_storm),
    (
        "reload_without_readers",
        Needs::Nothing,
        reload_without_readers,
    ),
];

/// Denies root port 701, by every kind of table.
const FIRST: &str = "version: 1
rules:
  - { name: first, action: deny, ports: [701], users: [0], cgroups: [\"/**\"], addresses: [127.0.0.0/8] }
  - { name: groups, action: deny, ports: [703], groups: [4242] }
";
/// Denies root port 702.
const SECOND: &str = "version: 1
rules:
  - { name: groups, action: deny, ports: [703], groups: [4242] }
  - { name: second, action: deny, ports: [702], users: [0], addresses: [127.0.0.0/8], units: [\"no-*.service\"] }
  - { name: third, action: deny, ports: [702], users: [0] }
";

const IN_FORCE: &str = "is in force";
const REFUSED: &str =
    "portguard: reload failed, keeping the previous policy: fix the files and reload again";

fn root(port: u16) -> Probe {
    Probe::user(0).bind(Attempt::tcp(port))
}

fn reload_is_all_or_nothing(env: &TestEnv) -> anyhow::Result<()> {
    let mut instance = Instance::start(env, FIRST)?;
    expect_decision(env, &instance, &root(701), deny("first"))?;
    expect_decision(env, &instance, &root(702), default("kernel"))?;
    for (policy, message) in [
        (SECOND, IN_FORCE),
        ("version: 1\nrules: [", REFUSED),
        ("", REFUSED),
        ("version: 1\nmod: audit\n", REFUSED),
    ] {
        instance.change(policy)?;
        instance.signal(Signal::HUP)?;
        instance.wait_for(message)?;
        expect_decision(env, &instance, &root(701), default("kernel"))?;
        expect_decision(env, &instance, &root(702), deny("third"))?;
    }
    ensure!(
        instance.stderr.contains("unknown key `mod`"),
        "the error is not reported: {}",
        instance.stderr
    );
    instance.change(FIRST)?;
    instance.signal(Signal::HUP)?;
    instance.wait_for(IN_FORCE)?;
    expect_decision(env, &instance, &root(701), deny("first"))?;
    expect_decision(env, &instance, &root(702), default("kernel"))?;
    instance.stop()?;
    Ok(())
}

/// Processes that bind one after the other, the binds of each, and the reloads during each: an odd number, so that
/// each process starts under another policy.
const PROCESSES: u8 = 6;
const BINDS: u16 = 400;
const RELOADS: usize = 5;

/// Each policy denies one port and leaves the other to the kernel. Both denied, both free, or a rule of one policy
/// with the hash of the other would be a mixture.
fn reload_storm(env: &TestEnv) -> anyhow::Result<()> {
    let mut instance = Instance::start(env, FIRST)?;
    let mut policies = [SECOND, FIRST].iter().cycle();
    let mut results = Vec::new();
    for process in 0..PROCESSES {
        let mut probe = Probe::user(0);
        for number in 0..BINDS {
            let [high, low] = number.to_be_bytes();
            let address = Ipv4Addr::new(127, 70 + process, high, low.max(1));
            probe = probe.bind(Attempt::tcp_at(address, 701 + number % 2));
        }
        let running = probe.spawn()?;
        for policy in policies.by_ref().take(RELOADS) {
            instance.change(policy)?;
            instance.signal(Signal::HUP)?;
            instance.wait_for(IN_FORCE)?;
        }
        results.extend(running.wait()?);
    }
    // The LSM hook may pass a bind under one policy and the cgroup hook refuse it under the next, with its own errno.
    let refused = ["lsm", "cgroup"].map(|hook| BindResult::Bound(env.denial(hook)));
    let denied = results.iter().filter(|result| refused.contains(result));
    let denied = denied.count();
    let events = instance.events()?;
    let (mut digests, mut denials) = ([BTreeSet::new(), BTreeSet::new()], 0);
    for event in events
        .iter()
        .filter(|event| event["port"] == 701 || event["port"] == 702)
    {
        let by_first = (event["port"] == 701) == (event["verdict"] == "deny");
        let rule = match (event["verdict"] == "deny", by_first) {
            (true, true) => Value::from("first"),
            (true, false) => Value::from("third"),
            (false, _) => Value::Null,
        };
        ensure!(event["rule"] == rule, "another policy's rule: {event}");
        denials += usize::from(event["verdict"] == "deny");
        let digest = event["policy"].as_str().context("policy")?.to_owned();
        digests[usize::from(by_first)].insert(digest);
    }
    ensure!(
        digests.iter().all(|digests| digests.len() == 1) && digests[0] != digests[1],
        "not two policies with one digest each: {digests:?}"
    );
    ensure!(
        denials == denied,
        "{denials} denials reported, {denied} binds refused"
    );
    instance.stop()?;
    Ok(())
}

/// A daemon whose stderr is closed keeps running and reloading.
fn reload_without_readers(env: &TestEnv) -> anyhow::Result<()> {
    let mut instance = Instance::start(env, FIRST)?;
    instance.close_stderr();
    // The first line makes the reading thread end and close the pipe; later lines meet a closed pipe.
    for policy in ["version: 2", "version: 3", "version: 4", SECOND] {
        instance.change(policy)?;
        instance.signal(Signal::HUP)?;
        // The event comes from the same loop, so two signals are not merged into one.
        instance.events()?;
    }
    let until = Instant::now() + DEADLINE;
    // Its stderr is closed, so only binds show the reload.
    while !matches!(root(701).run()?[..], [BindResult::Bound(0)]) {
        ensure!(Instant::now() < until, "the policy is not in force");
        std::thread::sleep(Duration::from_millis(20));
    }
    instance.events()?;
    expect_decision(env, &instance, &root(702), deny("third"))?;
    instance.stop()?;
    Ok(())
}
