//! Equal decisions of a second: the first at once, the others as one event with their number.

use super::Table;
use crate::harness::bind_runner::Cgroups;
use crate::harness::instance::{Ended, Instance};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("folds_equal_decisions", Needs::Nothing, folds),
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
type Counts = BTreeMap<String, BTreeMap<String, Vec<u64>>>;

fn counts(lines: &str) -> anyhow::Result<Counts> {
    let mut of = Counts::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
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

fn folds(env: &TestEnv) -> anyhow::Result<()> {
    let name = format!("pgfold-{}", std::process::id());
    let mut cgroups = Cgroups::default();
    cgroups.make(std::slice::from_ref(&name))?;
    let plan = plan(&name);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("decisions.jsonl");
    let sink = format!("file:{}", file.display());
    let arguments = ["--output", "text", "--sink", "stdout", "--sink", &sink];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let before = first_at_once(&instance)?;
    let took = play(&plan)?;
    let ended = instance.stop()?;
    let counts = counts(&std::fs::read_to_string(file)?)?;
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
    let all: usize = plan.iter().flat_map(|(_, counts)| counts).sum();
    summed_up(&ended, before + all)
}

/// What the kernel counted is what was bound.
fn summed_up(ended: &Ended, all: usize) -> anyhow::Result<()> {
    let summed = format!("portguard: decided {all}: ");
    ensure!(
        ended.said.contains(&summed) && ended.said.contains("; 0 events lost"),
        "{summed}: {}",
        ended.said
    );
    Ok(())
}

/// The first is told while its window runs, the others at its end, as `xN`: how many binds that took.
fn first_at_once(instance: &Instance) -> anyhow::Result<usize> {
    let heading = instance.next_line()?;
    ensure!(heading.starts_with("TIME"), "{heading}");
    let probe = |count| times(Probe::user(0), &Attempt::tcp(701), count);
    for tried in 1..6 {
        let began = Instant::now();
        probe(1).run()?;
        let first = shown(&instance.next_line()?)?;
        let at = began.elapsed();
        probe(8).run()?;
        let rest = shown(&instance.next_line()?)?;
        ensure!(first == 1, "the first is told as {first}");
        if rest == 8 && at < WINDOW {
            return Ok(9 * tried);
        }
        // A machine so slow that the window ended in between: all of them are told, and it is tried again.
        let mut told = rest;
        while told < 8 {
            told += shown(&instance.next_line()?)?;
        }
        ensure!(told == 8, "{told} told of 8");
    }
    bail!("the first of equal decisions was never told within {WINDOW:?}")
}

/// How many decisions a line of the table stands for.
fn shown(line: &str) -> anyhow::Result<u64> {
    ensure!(line.contains(" deny "), "{line}");
    match line.rsplit_once(", x") {
        Some((_, count)) => count.parse().with_context(|| line.to_owned()),
        None => Ok(1),
    }
}

/// `log:` keeps events back, and counts none the less.
fn log_of_policy(env: &TestEnv) -> anyhow::Result<()> {
    let policy = |log: &str| format!("{POLICY}log: {log}\n");
    let arguments = ["--output", "json"];
    let instance = Instance::start_by(env, &policy("all"), env.auto_hook(), &arguments)?;
    let mut wanted = Vec::new();
    for (log, told) in [("all", 12), ("deny", 8), ("none", 0)] {
        instance.change(&policy(log))?;
        instance.command(&["reload"]).output()?;
        play(&[
            (times(Probe::user(0), &Attempt::tcp(701), 8), vec![8]),
            (times(Probe::user(33), &Attempt::tcp(80), 3), vec![3]),
            (times(Probe::user(33), &Attempt::tcp(82), 1), vec![1]),
        ])?;
        wanted.push((log, instance.status()?["policy"]["hash"].clone(), told));
    }
    let ended = instance.stop()?;
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for line in &ended.rest {
        let event: Value = serde_json::from_str(line)?;
        let count = event["count"].as_u64().with_context(|| line.clone())?;
        *told.entry(event["policy"].to_string()).or_default() += count;
    }
    for (log, hash, wanted) in wanted {
        let told = told.get(&hash.to_string()).copied().unwrap_or_default();
        ensure!(told == wanted, "log: {log}: {told} told: {:?}", ended.rest);
    }
    summed_up(&ended, 36)
}
