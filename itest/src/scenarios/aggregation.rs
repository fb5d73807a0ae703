//! Aggregation: of equal decisions the first is an event at once, the others of a second are one event with a count.

use crate::harness::Table;
use crate::harness::cgroups::Cgroups;
use crate::harness::instance::{Ended, Instance};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    (
        "aggregation_of_equal_decisions",
        Needs::Nothing,
        equal_decisions,
    ),
    (
        "aggregation_asserts_what_all_had",
        Needs::Nothing,
        asserts_what_all_had,
    ),
    ("log_setting", Needs::Nothing, log_setting),
];

const POLICY: &str = "version: 1
rules:
  - { name: low, action: deny, ports: [701, 702] }
  - { name: elsewhere, action: deny, ports: [703], addresses: [127.9.0.0/16] }
  - { name: web, action: allow, ports: [80], users: [33] }
";

/// How long equal decisions are aggregated.
const WINDOW: Duration = Duration::from_secs(1);

/// Adds `count` equal binds.
fn times(probe: Probe, attempt: &Attempt, count: usize) -> Probe {
    (0..count).fold(probe, |probe, _| probe.bind(attempt.clone()))
}

/// Processes and the sizes of their groups of equal binds. Groups differ in port, protocol, uid, cgroup or verdict; the
/// name of a process identifies its events.
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

/// The counts of the events of each process, in order, by protocol, port and verdict.
type Counts = BTreeMap<String, BTreeMap<String, Vec<u64>>>;

fn counts(lines: &str) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        // The binds before the plan are of several processes.
        let Some(comm) = event["comm"].as_str().map(str::to_owned) else {
            continue;
        };
        let key = format!(
            "{}/{} {}",
            event["protocol"], event["port"], event["verdict"]
        );
        let count = event["count"].as_u64().context("count")?;
        (counts.entry(comm).or_default().entry(key).or_default()).push(count);
    }
    Ok(counts)
}

/// Makes the binds of the plan as fast as possible.
fn run_all(plan: &[(Probe, Vec<usize>)]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let running: Vec<_> = (plan.iter())
        .map(|(probe, _)| probe.spawn())
        .collect::<Result<_, _>>()?;
    for running in running {
        running.wait()?;
    }
    Ok(began.elapsed())
}

fn equal_decisions(env: &TestEnv) -> anyhow::Result<()> {
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
    let took = run_all(&plan)?;
    let ended = instance.stop()?;
    let counts = counts(&std::fs::read_to_string(file)?)?;
    for (probe, expected) in &plan {
        let comm = String::from_utf8_lossy(&probe.comm).into_owned();
        let of = counts
            .get(&comm)
            .with_context(|| format!("{comm}: {counts:?}"))?;
        let mut sums: Vec<u64> = of.values().map(|counts| counts.iter().sum()).collect();
        let mut expected: Vec<u64> = expected.iter().map(|&count| count as u64).collect();
        sums.sort_unstable();
        expected.sort_unstable();
        ensure!(sums == expected, "{sums:?}, not {expected:?}: {of:?}");
        for counts in of.values() {
            let first_alone = counts.first() == Some(&1);
            // A window begins with its first decision, so there are at most two events.
            let aggregated = took >= WINDOW || counts.len() <= 2;
            ensure!(first_alone && aggregated, "in {took:?}: {of:?}");
        }
    }
    let all: usize = plan.iter().flat_map(|(_, counts)| counts).sum();
    expect_total(&ended, before + all)
}

/// The kernel counted each bind.
fn expect_total(ended: &Ended, all: usize) -> anyhow::Result<()> {
    let summed = format!("portguard: decided {all}: ");
    ensure!(
        ended.stderr.contains(&summed) && ended.stderr.contains("; 0 events dropped"),
        "{summed}: {}",
        ended.stderr
    );
    Ok(())
}

/// The first event comes within the window, the others as one `xN` at its end: how many binds were made to see that.
fn first_at_once(instance: &Instance) -> anyhow::Result<usize> {
    let heading = instance.next_line()?;
    ensure!(heading.starts_with("TIME"), "{heading}");
    let probe = |count| times(Probe::user(0), &Attempt::tcp(701), count);
    for tried in 1..6 {
        let began = Instant::now();
        probe(1).run()?;
        let first = count_of(&instance.next_line()?)?;
        let at = began.elapsed();
        probe(8).run()?;
        let rest = count_of(&instance.next_line()?)?;
        ensure!(first == 1, "the first line has count {first}");
        if rest == 8 && at < WINDOW {
            return Ok(9 * tried);
        }
        // The machine was so slow that the window ended in between: all are reported, and the test repeats.
        let mut reported = rest;
        while reported < 8 {
            reported += count_of(&instance.next_line()?)?;
        }
        ensure!(reported == 8, "{reported} reported of 8");
    }
    bail!("the first of equal decisions was never reported within {WINDOW:?}")
}

/// The number of decisions of a line of the table.
fn count_of(line: &str) -> anyhow::Result<u64> {
    ensure!(line.contains(" deny "), "{line}");
    match line.rsplit_once(", x") {
        Some((_, count)) => count.parse().with_context(|| line.to_owned()),
        None => Ok(1),
    }
}

/// A wildcard bind does not hide behind one of the loopback address, nor one process behind another.
fn asserts_what_all_had(env: &TestEnv) -> anyhow::Result<()> {
    let arguments = ["--output", "json"];
    let any = Attempt::tcp_at(Ipv4Addr::UNSPECIFIED, 701);
    for _ in 0..5 {
        let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
        let binds = |probe| times(times(probe, &Attempt::tcp(701), 3), &any, 2);
        let (one, other) = (binds(Probe::user(1000)), binds(Probe::user(1000)));
        one.run()?;
        other.run()?;
        let ended = instance.stop()?;
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        let mut folded = 0;
        for line in &ended.stdout {
            let event: Value = serde_json::from_str(line)?;
            let count = event["count"].as_u64().with_context(|| line.clone())?;
            *sums.entry(event["address"].to_string()).or_default() += count;
            let nulls =
                ["pid", "ppid", "start_time", "comm", "exe"].map(|field| event[field].is_null());
            if event["several"] == true {
                ensure!(nulls == [true; 5], "{line}");
                folded += 1;
            } else {
                ensure!(!nulls[0] && !nulls[3], "{line}");
                // No process made more.
                ensure!(count <= 2, "{line}");
            }
        }
        let expected = [
            ("\"0.0.0.0\"".to_owned(), 4),
            ("\"127.0.0.1\"".to_owned(), 6),
        ];
        ensure!(sums == BTreeMap::from(expected), "{:?}", ended.stdout);
        if folded == 2 {
            return Ok(());
        }
        // The machine was so slow that a window ended in between.
    }
    bail!("two processes were never folded within {WINDOW:?}")
}

/// `log:` suppresses events but not counts.
fn log_setting(env: &TestEnv) -> anyhow::Result<()> {
    let policy = |log: &str| format!("{POLICY}log: {log}\n");
    let arguments = ["--output", "json"];
    let instance = Instance::start_by(env, &policy("all"), env.auto_hook(), &arguments)?;
    let mut expected = Vec::new();
    for (log, reported) in [("all", 12), ("deny", 8), ("none", 0)] {
        instance.reload(&policy(log))?;
        run_all(&[
            (times(Probe::user(0), &Attempt::tcp(701), 8), vec![8]),
            (times(Probe::user(33), &Attempt::tcp(80), 3), vec![3]),
            (times(Probe::user(33), &Attempt::tcp(82), 1), vec![1]),
        ])?;
        expected.push((log, instance.status()?["policy"]["hash"].clone(), reported));
    }
    let ended = instance.stop()?;
    let mut reported: BTreeMap<String, u64> = BTreeMap::new();
    for line in &ended.stdout {
        let event: Value = serde_json::from_str(line)?;
        let count = event["count"].as_u64().with_context(|| line.clone())?;
        *reported.entry(event["policy"].to_string()).or_default() += count;
    }
    for (log, hash, expected) in expected {
        let reported = reported.get(&hash.to_string()).copied().unwrap_or_default();
        ensure!(
            reported == expected,
            "log: {log}: {reported} reported: {:?}",
            ended.stdout
        );
    }
    expect_total(&ended, 36)
}
