//! Floods: a million binds across a hundred reloads, and what of it is reported.

use super::Table;
use super::checks::answer;
use crate::harness::bind_load::BindLoad;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Kind, Needs, TestEnv};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::time::Duration;

pub(super) const TESTS: Table = &[
    ("flood_of_a_million", Needs::Nothing, flood_of_a_million),
    ("soak", Needs::Guest, soak),
];

/// A short one; `cargo xtask soak` is the long one.
fn soak(env: &TestEnv) -> anyhow::Result<()> {
    crate::soak::run(env, 3, Duration::from_secs(4))
}

/// Refused by the user table.
const BY_USER: &str = "version: 1
rules:
  - { name: by-user, action: deny, ports: [702], users: [0] }
  - { name: others, action: deny, ports: [703] }
";
/// Refused by cgroup, address and group, and by no user: any mixture of the two would let root bind.
const BY_REST: &str = "version: 1
rules:
  - { name: others, action: deny, ports: [703] }
  - { name: elsewhere, action: deny, ports: [702], users: [4242] }
  - { name: by-rest, action: deny, ports: [702], groups: [0], cgroups: [\"/**\"], addresses: [127.0.0.0/8] }
";

/// Binds of each of two threads, and reloads meanwhile. An emulated machine is slow; on a real one ten times as
/// many found a decision that had taken the address for one policy and the rest for the next.
const fn size(kind: Kind) -> (u64, usize) {
    match kind {
        Kind::Native => (5_000_000, 1_000),
        Kind::Guest | Kind::GuestWithoutLsm => (500_000, 100),
    }
}

fn flood_of_a_million(env: &TestEnv) -> anyhow::Result<()> {
    let (binds, all_reloads) = size(env.kind);
    let instance = Instance::start_by(env, BY_USER, "auto", &[])?;
    let mut hammers = [
        BindLoad::start(1, 702, binds),
        BindLoad::start(2, 702, binds),
    ];
    let mut policies = [BY_REST, BY_USER].iter().cycle();
    let mut others = Vec::new();
    let mut reloads = 0;
    while reloads < all_reloads || hammers.iter().any(|hammer| !hammer.is_done()) {
        if reloads < all_reloads {
            instance.change(policies.next().context("they never end")?)?;
            let reload = instance.command(&["reload"]).output()?;
            ensure!(reload.status.success(), "reload: {reload:?}");
            reloads += 1;
        }
        // Somebody else's bind, in the middle of it.
        let uid = 20_000 + u32::try_from(others.len())?;
        if reloads % 10 == 0 && others.len() < 10 {
            let seen = answer(&Probe::user(uid).bind(Attempt::tcp(703)))?;
            ensure!(seen == env.denial(instance.hook), "uid {uid}: errno {seen}");
            others.push(uid);
        }
    }
    let refusal = env.denial(instance.hook);
    let mut refused = 0;
    for hammer in &mut hammers {
        let ended = hammer.join()?;
        ensure!(
            ended.len() == 1 && ended.contains_key(&refusal),
            "not every bind was refused: {ended:?}"
        );
        refused += ended.values().sum::<u64>();
    }
    ensure!(refused == 2 * binds, "{refused} binds");
    exact(instance, refused, &others, all_reloads)
}

/// Every decision is in an event or in a counted drop, and nobody else's was lost.
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
    // More, where the change was noticed before the command came.
    ensure!(done >= reloads as u64, "reloads: {status}");
    let ended = instance.stop()?;
    let events: Vec<Value> = (ended.rest.iter())
        .map(|line| serde_json::from_str(line).with_context(|| line.clone()))
        .collect::<Result<_, _>>()?;
    let reported: u64 = events
        .iter()
        .filter_map(|event| event["count"].as_u64())
        .sum();
    let lost: u64 = (ended.said.lines())
        .find_map(|line| line.split("; ").nth(1)?.strip_suffix(" events lost"))
        .with_context(|| ended.said.clone())?
        .parse()?;
    ensure!(
        reported + lost == all,
        "{reported} reported and {lost} lost of {all}; {} events",
        events.len()
    );
    for uid in others {
        ensure!(
            events.iter().any(|event| event["uid"] == *uid),
            "the event of uid {uid} is lost"
        );
    }
    println!(
        "flood: {all} denials in {} events, {lost} lost, {hits} hits of rules that stayed",
        events.len()
    );
    Ok(())
}
