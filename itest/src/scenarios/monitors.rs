//! `portguard monitor`: several at once, each with what it wants; one that does not read; who may.

use super::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::bind_runner::Cgroups;
use crate::harness::instance::Instance;
use crate::harness::monitor_client::Watching;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

pub(super) const TESTS: Table = &[
    ("monitors_get_theirs", Needs::Nothing, get_theirs),
    ("monitor_that_does_not_read", Needs::Nothing, does_not_read),
    ("monitor_by_others", Needs::Nothing, by_others),
];

const POLICY: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81, 702], users: [0] }
";

/// The ports of decisions.
fn ports(lines: &[String]) -> anyhow::Result<Vec<u64>> {
    lines
        .iter()
        .map(|line| {
            let event: Value = serde_json::from_str(line)?;
            event["port"].as_u64().with_context(|| line.clone())
        })
        .collect()
}

fn get_theirs(env: &TestEnv) -> anyhow::Result<()> {
    let unit = format!("pgmon-{}", std::process::id());
    let cgroup = format!("{unit}.service");
    let mut cgroups = Cgroups::default();
    cgroups.make(std::slice::from_ref(&cgroup))?;
    let instance = Instance::start(env, POLICY)?;
    let filters: [(&[&str], &[u64]); 9] = [
        (&[], &[80, 81, 82]),
        (&["--verdict", "deny"], &[81]),
        (&["--verdict", "deny", "--verdict", "allow"], &[80, 81]),
        (&["--user", "1000"], &[82]),
        (&["--port", "80-81"], &[80, 81]),
        (&["--rule", "web"], &[80]),
        (&["--rule", ""], &[82]),
        (&["--unit", &unit], &[80]),
        (&["--port", "82", "--verdict", "deny"], &[]),
    ];
    let watching: Vec<_> = (filters.iter())
        .map(|(filter, _)| Watching::start(&instance, filter))
        .collect::<Result<_, _>>()?;
    for probe in [
        Probe::user(33).in_cgroup(&cgroup).bind(Attempt::tcp(80)),
        Probe::user(0).bind(Attempt::tcp(81)),
        Probe::user(1000).bind(Attempt::tcp(82)),
    ] {
        probe.run()?;
    }
    // What was decided before the end is told before the end.
    let ended = instance.stop()?;
    for ((filter, wanted), watching) in filters.iter().zip(watching) {
        let lines = watching.rest()?;
        ensure!(ports(&lines)? == *wanted, "{filter:?}: {lines:?}");
        let same = lines.iter().all(|line| ended.rest.contains(line));
        ensure!(same, "{filter:?}, not as on stdout: {lines:?}");
    }
    ensure!(ports(&ended.rest)? == [80, 81, 82], "{:?}", ended.rest);
    Ok(())
}

/// Decisions of a round, and rounds: more than wait for a monitor that does not read.
const ROUND: u64 = 400;
const ROUNDS: u64 = 12;

/// Nor does it keep anybody else from theirs. Equal decisions, each of them by itself (`--no-fold`).
fn does_not_read(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    let (slow, fast) = (
        Watching::start(&instance, &[])?,
        Watching::start(&instance, &[])?,
    );
    slow.signal(Signal::STOP)?;
    for round in 1..=ROUNDS {
        let ended = BindLoad::start(7, 702, ROUND).join()?;
        ensure!(
            ended.get(&env.denial(instance.hook)) == Some(&ROUND),
            "{ended:?}"
        );
        // The other has all of them meanwhile, one by one.
        for number in 0..ROUND {
            let line = fast.next()?;
            let event: Value = serde_json::from_str(&line)?;
            ensure!(
                event["port"] == 702,
                "decision {number} of round {round}: {line}"
            );
        }
    }
    slow.signal(Signal::CONT)?;
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < ROUND * ROUNDS {
        let line = slow.next()?;
        let event: Value = serde_json::from_str(&line)?;
        match event["dropped"].as_u64() {
            Some(number) => dropped += number,
            None => seen += 1,
        }
    }
    ensure!(
        seen + dropped == ROUND * ROUNDS && dropped > 0 && seen > 0,
        "{seen} seen, {dropped} dropped of {}",
        ROUND * ROUNDS
    );
    let status = instance.status()?;
    ensure!(status["drops"]["ring_full"] == 0, "{status}");
    let ended = instance.stop()?;
    for watching in [slow, fast] {
        let rest = watching.rest()?;
        ensure!(rest.is_empty(), "told twice: {rest:?}");
    }
    ensure!(
        ended.rest.len() as u64 == ROUND * ROUNDS,
        "{} on stdout",
        ended.rest.len()
    );
    println!("monitor: {seen} seen, {dropped} dropped by one that was stopped");
    Ok(())
}

/// The group that may, who is in it, and who is not.
const GROUP: u32 = 4242;
const MEMBER: u32 = 1000;
const OTHER: u32 = 1001;

fn as_user(mut command: Command, uid: u32, gid: u32) -> Command {
    command.uid(uid).gid(gid);
    command
}

fn by_others(env: &TestEnv) -> anyhow::Result<()> {
    let group = GROUP.to_string();
    let arguments = ["--no-fold", "--output", "json", "--socket-group", &group];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let socket = instance.socket();
    // The test's own directory is root's alone.
    let directory = socket.parent().context("a directory")?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let monitor = || instance.command(&["monitor", "--output", "json"]);
    let watching = Watching::by(as_user(monitor(), MEMBER, GROUP))?;
    Probe::user(0).bind(Attempt::tcp(81)).run()?;
    let line = watching.next()?;
    ensure!(ports(std::slice::from_ref(&line))? == [81], "{line}");
    for command in ["status", "reload"] {
        let output = as_user(instance.command(&[command]), MEMBER, GROUP).output()?;
        ensure!(output.status.code() == Some(0), "{command}: {output:?}");
    }
    let detach = as_user(instance.command(&["detach"]), MEMBER, GROUP).output()?;
    refused(&detach, 1, "portguard: only root may detach\n")?;
    let wanted = format!(
        "portguard: no right to connect to {}: only root and the group {GROUP} have it\n",
        socket.display()
    );
    for command in [monitor(), instance.command(&["status"])] {
        refused(&as_user(command, OTHER, OTHER).output()?, 3, &wanted)?;
    }
    instance.stop()?;
    Ok(())
}

fn refused(output: &Output, code: i32, wanted: &str) -> anyhow::Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code) && said == wanted && output.stdout.is_empty(),
        "not {code} {wanted:?}: {output:?}"
    );
    Ok(())
}
