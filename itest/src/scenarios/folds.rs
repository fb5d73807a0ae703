//! Equal decisions of a second: the first at once, the others as one event with their number.

use super::Table;
use crate::harness::{Needs, World};
use crate::instance::{Ended, Instance};
use crate::probe::{Attempt, Probe};
use crate::real::Cgroups;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("folds_equal_decisions", Needs::Nothing, folds),
    ("folds_first_at_once", Needs::Nothing, first_at_once),
    ("folds_not", Needs::Nothing, not_folded),
    ("folds_as_text", Needs::Nothing, as_text),
    ("log_of_policy", Needs::Nothing, log_of_policy),
];

const POLICY: &str = "version: 1
rules:
  - { name: low, action: deny, ports: [701, 702] }
  - { name: elsewhere, action: deny, ports: [703], addresses: [127.9.0.0/16] }
  - { name: web, action: allow, ports: [80], users: [33] }
";

/// How long equal decisions are folded.
const WINDOW: Duration = Duration::from_secs(1);

/// So many binds.
fn times(probe: Probe, attempt: &Attempt, count: usize) -> Probe {
    (0..count).fold(probe, |probe, _| probe.bind(attempt.clone()))
}

/// Binds that are equal among themselves and differ from all others, and how many: in port, protocol, uid,
/// cgroup or verdict. What a process binds is told from what others do by its name.
fn plan(cgroup: &str) -> Vec<(Probe, Vec<usize>)> {
    let root = || Probe::user(0);
    let tcp = Attempt::tcp;
    let two = |probe, first, second| times(times(probe, first, 4), second, 3);
    let elsewhere = Attempt::tcp_at(Ipv4Addr::new(127, 9, 0, 1), 703);
    vec![
        (times(root(), &tcp(701), 9), vec![9]),
        (times(Probe::user(1000), &tcp(701), 5), vec![5]),
        (times(root().in_cgroup(cgroup), &tcp(701), 6), vec![6]),
        (two(Probe::user(1001), &tcp(701), &tcp(702)), vec![4, 3]),
        (
            two(Probe::user(1002), &tcp(701), &Attempt::udp(701)),
            vec![4, 3],
        ),
        (two(Probe::user(0), &tcp(703), &elsewhere), vec![4, 3]),
        (times(Probe::user(33), &tcp(80), 2), vec![2]),
        (times(Probe::user(33), &tcp(81), 1), vec![1]),
    ]
}

/// The counts of each process's events, by what tells them apart, in the order in which they came.
fn counts(ended: &Ended) -> anyhow::Result<BTreeMap<String, BTreeMap<String, Vec<u64>>>> {
    let mut of: BTreeMap<String, BTreeMap<String, Vec<u64>>> = BTreeMap::new();
    for line in &ended.rest {
        let event: Value = serde_json::from_str(line).with_context(|| line.clone())?;
        let comm = event["comm"].as_str().context("comm")?.to_owned();
        let key = format!(
            "{}/{} {}",
            event["protocol"], event["port"], event["verdict"]
        );
        let count = event["count"].as_u64().context("count")?;
        (of.entry(comm).or_default().entry(key).or_default()).push(count);
    }
    Ok(of)
}

/// Makes the binds of the plan, as fast as they can be made.
fn play(plan: &[(Probe, Vec<usize>)]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let running: Vec<_> = (plan.iter())
        .map(|(probe, _)| probe.spawn())
        .collect::<Result<_, _>>()?;
    for running in running {
        running.wait()?;
    }
    Ok(began.elapsed())
}

fn folds(world: &World) -> anyhow::Result<()> {
    let name = format!("pgfold-{}", std::process::id());
    let mut cgroups = Cgroups::default();
    cgroups.make(std::slice::from_ref(&name))?;
    let plan = plan(&name);
    let arguments = ["--output", "json"];
    let instance = Instance::start_by(world, POLICY, world.auto_hook(), &arguments)?;
    let took = play(&plan)?;
    let ended = instance.stop()?;
    let counts = counts(&ended)?;
    for (probe, wanted) in &plan {
        let comm = String::from_utf8_lossy(&probe.comm).into_owned();
        let of = counts
            .get(&comm)
            .with_context(|| format!("{comm}: {counts:?}"))?;
        let mut sums: Vec<u64> = of.values().map(|counts| counts.iter().sum()).collect();
        let mut wanted: Vec<u64> = wanted.iter().map(|&count| count as u64).collect();
        sums.sort_unstable();
        wanted.sort_unstable();
        ensure!(sums == wanted, "{sums:?}, not {wanted:?}: {of:?}");
        for counts in of.values() {
            let first_alone = counts.first() == Some(&1);
            // One window, which begins with the first decision: two events at the most.
            let folded = took >= WINDOW || counts.len() <= 2;
            ensure!(first_alone && folded, "in {took:?}: {of:?}");
        }
    }
    summed_up(&ended, &plan)
}

/// What the kernel counted is the sum of the plan.
fn summed_up(ended: &Ended, plan: &[(Probe, Vec<usize>)]) -> anyhow::Result<()> {
    let all: usize = plan.iter().flat_map(|(_, counts)| counts).sum();
    let summed = format!("portguard: decided {all}: ");
    ensure!(
        ended.said.contains(&summed) && ended.said.contains("; 0 events lost"),
        "{summed}: {}",
        ended.said
    );
    Ok(())
}

/// The first is told while its window runs.
fn first_at_once(world: &World) -> anyhow::Result<()> {
    let arguments = ["--output", "json"];
    let instance = Instance::start_by(world, POLICY, world.auto_hook(), &arguments)?;
    let probe = |count| times(Probe::user(0), &Attempt::tcp(701), count);
    for _ in 0..5 {
        let began = Instant::now();
        probe(1).run()?;
        let first = count(&instance.next_line()?)?;
        let at = began.elapsed();
        probe(8).run()?;
        let rest = count(&instance.next_line()?)?;
        ensure!(first == 1, "the first is told as {first}");
        if rest == 8 && at < WINDOW {
            instance.stop()?;
            return Ok(());
        }
        // A machine so slow that the window ended in between: all of them are told, and it is tried again.
        let mut told = rest;
        while told < 8 {
            told += count(&instance.next_line()?)?;
        }
        ensure!(told == 8, "{told} told of 8");
    }
    bail!("the first of equal decisions was never told within {WINDOW:?}")
}

fn count(line: &str) -> anyhow::Result<u64> {
    let event: Value = serde_json::from_str(line)?;
    event["count"].as_u64().with_context(|| line.to_owned())
}

fn not_folded(world: &World) -> anyhow::Result<()> {
    let plan = [(times(Probe::user(0), &Attempt::tcp(701), 20), vec![20])];
    let instance = Instance::start(world, POLICY)?;
    play(&plan)?;
    let ended = instance.stop()?;
    let all: Vec<u64> = (ended.rest.iter())
        .map(|line| count(line))
        .collect::<Result<_, _>>()?;
    ensure!(all == [1; 20], "{all:?}");
    summed_up(&ended, &plan)
}

fn as_text(world: &World) -> anyhow::Result<()> {
    let plan = [(times(Probe::user(0), &Attempt::tcp(701), 12), vec![12])];
    let arguments = ["--output", "text"];
    let instance = Instance::start_by(world, POLICY, world.auto_hook(), &arguments)?;
    let took = play(&plan)?;
    let ended = instance.stop()?;
    let [heading, first, rest @ ..] = &ended.rest[..] else {
        bail!("{:?}", ended.rest);
    };
    ensure!(heading.starts_with("TIME"), "{heading}");
    ensure!(
        first.contains(" deny ") && !first.contains(", x"),
        "{first}"
    );
    let last = rest.last().context("what was folded")?;
    ensure!(
        took >= WINDOW || (rest.len() == 1 && last.ends_with(", x11")),
        "in {took:?}: {:?}",
        ended.rest
    );
    Ok(())
}

/// `log:` keeps events back, and counts none the less.
fn log_of_policy(world: &World) -> anyhow::Result<()> {
    for (log, wanted) in [("all", 12), ("deny", 8), ("none", 0)] {
        let policy = format!("{POLICY}log: {log}\n");
        let plan = [
            (times(Probe::user(0), &Attempt::tcp(701), 8), vec![8]),
            (times(Probe::user(33), &Attempt::tcp(80), 3), vec![3]),
            (times(Probe::user(33), &Attempt::tcp(82), 1), vec![1]),
        ];
        let instance =
            Instance::start_by(world, &policy, world.auto_hook(), &["--output", "json"])?;
        play(&plan)?;
        let ended = instance.stop()?;
        let told: u64 = (ended.rest.iter())
            .map(|line| count(line))
            .sum::<Result<_, _>>()?;
        ensure!(told == wanted, "log: {log}: {told} told: {:?}", ended.rest);
        summed_up(&ended, &plan)?;
    }
    Ok(())
}
