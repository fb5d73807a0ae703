//! A policy is changed while it is in force: whole or not at all.

use super::Table;
use super::checks::{default, deny, judged};
use crate::harness::instance::{DEADLINE, Instance};
use crate::harness::probe::{Answer, Attempt, Probe};
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

/// Denies root port 701, by a table of each kind.
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

const TAKEN: &str = "is in force";
const REFUSED: &str =
    "portguard: reload failed, keeping the previous policy: mend the files and reload again";

fn root(port: u16) -> Probe {
    Probe::user(0).bind(Attempt::tcp(port))
}

fn reload_is_all_or_nothing(env: &TestEnv) -> anyhow::Result<()> {
    let mut instance = Instance::start(env, FIRST)?;
    judged(env, &instance, &root(701), deny("first"))?;
    judged(env, &instance, &root(702), default("kernel"))?;
    for (policy, said) in [
        (SECOND, TAKEN),
        ("version: 1\nrules: [", REFUSED),
        ("", REFUSED),
        ("version: 1\nmod: audit\n", REFUSED),
    ] {
        instance.change(policy)?;
        instance.signal(Signal::HUP)?;
        instance.wait_for(said)?;
        judged(env, &instance, &root(701), default("kernel"))?;
        judged(env, &instance, &root(702), deny("third"))?;
    }
    ensure!(
        instance.said.contains("unknown key `mod`"),
        "the mistake is not shown: {}",
        instance.said
    );
    instance.change(FIRST)?;
    instance.signal(Signal::HUP)?;
    instance.wait_for(TAKEN)?;
    judged(env, &instance, &root(701), deny("first"))?;
    judged(env, &instance, &root(702), default("kernel"))?;
    instance.stop()?;
    Ok(())
}

/// Processes that bind one after the other, the binds of each, and policies that come and go meanwhile: an odd
/// number, so that each process begins under another one.
const PROCESSES: u8 = 6;
const BINDS: u16 = 400;
const RELOADS: usize = 5;

/// Under either policy one port is denied and the other left to the kernel: both denied, both free, or a
/// rule's name beside the other policy's digest would be a mixture.
fn reload_storm(env: &TestEnv) -> anyhow::Result<()> {
    let mut instance = Instance::start(env, FIRST)?;
    let mut policies = [SECOND, FIRST].iter().cycle();
    let mut answers = Vec::new();
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
            instance.wait_for(TAKEN)?;
        }
        answers.extend(running.wait()?);
    }
    // What the LSM lets pass by one policy the cgroup hook may refuse by the next, with an errno of its own.
    let refused = ["lsm", "cgroup"].map(|hook| Answer::Bound(env.denial(hook)));
    let denied = answers.iter().filter(|answer| refused.contains(answer));
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

/// Nobody reads what it says: that must not end it.
fn reload_without_readers(env: &TestEnv) -> anyhow::Result<()> {
    let mut instance = Instance::start(env, FIRST)?;
    instance.close_stderr();
    // The first words are read and find nobody, which closes the pipe; the others meet it closed.
    for policy in ["version: 2", "version: 3", "version: 4", SECOND] {
        instance.change(policy)?;
        instance.signal(Signal::HUP)?;
        // Answered by the same loop: one signal is not taken for two.
        instance.events()?;
    }
    let until = Instant::now() + DEADLINE;
    // It says no word of it, so the binds tell.
    while !matches!(root(701).run()?[..], [Answer::Bound(0)]) {
        ensure!(Instant::now() < until, "the policy was not taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    instance.events()?;
    judged(env, &instance, &root(702), deny("third"))?;
    instance.stop()?;
    Ok(())
}
