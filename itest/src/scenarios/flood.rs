//! Floods: up to a million binds during a hundred reloads, natively ten times as many.

use super::checks::errno_of;
use crate::harness::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::events::{decisions, parse};
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Kind, Needs, TestEnv};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::time::Duration;

pub(super) const TESTS: Table = &[("flood_of_a_million", Needs::Nothing, flood_of_a_million)];

/// The parts of a soak that depend on the kernel have tests of their own.
pub(super) const SOAK: Table = &[("soak", Needs::Guest, soak)];

/// A short soak; `cargo xtask soak` runs a long one.
fn soak(env: &TestEnv) -> anyhow::Result<()> {
    crate::soak::run(env, 3, Duration::from_secs(4))
}

/// Denies by the user table.
const BY_USER: &str = "version: 1
rules:
  - { name: by-user, action: deny, ports: [702], users: [0] }
  - { name: others, action: deny, ports: [703] }
";
/// Denies by cgroup, address and group, and by no user: a mixture of both policies would let root bind.
const BY_REST: &str = "version: 1
rules:
  - { name: others, action: deny, ports: [703] }
  - { name: elsewhere, action: deny, ports: [702], users: [4242] }
  - { name: by-rest, action: deny, ports: [702], groups: [0], cgroups: [\"/**\"], addresses: [127.0.0.0/8] }
";

/// Binds of each of two threads, and reloads meanwhile. Emulated machines are slow; on a real one ten times as
/// many found a decision with the address class of one policy and the rest of the next.
fn size(env: &TestEnv) -> (u64, usize) {
    match env.kind {
        Kind::Native => (5_000_000, 1_000),
        _ if env.repeats_fully() => (500_000, 100),
        Kind::Guest | Kind::GuestWithoutLsm => (100_000, 30),
    }
}

fn flood_of_a_million(env: &TestEnv) -> anyhow::Result<()> {
    let (binds, all_reloads) = size(env);
    let instance = Instance::start_by(env, BY_USER, "auto", &[])?;
    let mut loads = [
        BindLoad::start(1, 702, binds),
        BindLoad::start(2, 702, binds),
    ];
    let mut policies = [BY_REST, BY_USER].iter().cycle();
    let mut others = Vec::new();
    let mut reloads = 0;
    while reloads < all_reloads || loads.iter().any(|load| !load.is_done()) {
        if reloads < all_reloads {
            instance.reload(policies.next().context("they never end")?)?;
            reloads += 1;
        }
        // A bind of another user during the flood.
        let uid = 20_000 + u32::try_from(others.len())?;
        if reloads % 10 == 0 && others.len() < 10 {
            let actual = errno_of(&Probe::user(uid).bind(Attempt::tcp(703)))?;
            ensure!(
                actual == env.denial(instance.hook),
                "uid {uid}: errno {actual}"
            );
            others.push(uid);
        }
    }
    let refusal = env.denial(instance.hook);
    let mut refused = 0;
    for load in &mut loads {
        let ended = load.join()?;
        ensure!(
            ended.len() == 1 && ended.contains_key(&refusal),
            "not every bind was refused: {ended:?}"
        );
        refused += ended.values().sum::<u64>();
    }
    ensure!(refused == 2 * binds, "{refused} binds");
    exact(instance, refused, &others, all_reloads)
}

/// Every decision is in an event or counted as dropped, and no other user's was dropped.
fn exact(instance: Instance, refused: u64, others: &[u32], reloads: usize) -> anyhow::Result<()> {
    let status = instance.status()?;
    let all = refused + others.len() as u64;
    ensure!(
        status["decisions"]["deny"] == all,
        "not {all} denials counted: {status}"
    );
    let hits: u64 = (status["rules"].as_array().context("rules")?.iter())
        .filter_map(|rule| rule["hits"].as_u64())
        .sum();
    let done = status["reloads"]["done"].as_u64().context("done")?;
    // More, if the watcher saw the change before the command came.
    ensure!(done >= reloads as u64, "reloads: {status}");
    let ended = instance.stop()?;
    let events: Vec<Value> = (ended.stdout.iter())
        .map(|line| parse(line))
        .collect::<Result<_, _>>()?;
    let (reported, dropped) = (decisions(&ended.stdout, None)?, ended.dropped()?);
    ensure!(
        reported + dropped == all,
        "{reported} reported and {dropped} dropped of {all}; {} events",
        events.len()
    );
    for uid in others {
        ensure!(
            events.iter().any(|event| event["uid"] == *uid),
            "the event of uid {uid} was dropped"
        );
    }
    println!(
        "flood: {all} denials in {} events, {dropped} dropped, {hits} hits of rules that stayed",
        events.len()
    );
    Ok(())
}
