//! `portguard monitor`: filters, slow readers, access rights.

use crate::harness::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::cgroups::Cgroups;
use crate::harness::instance::Instance;
use crate::harness::monitor_client::MonitorClient;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

pub(super) const TESTS: Table = &[
    ("monitor_filters", Needs::Nothing, filters),
    ("monitor_slow_reader", Needs::Nothing, slow_reader),
    ("monitor_access_rights", Needs::Nothing, access_rights),
];

const POLICY: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81, 702], users: [0] }
";

fn ports(lines: &[String]) -> anyhow::Result<Vec<u64>> {
    lines
        .iter()
        .map(|line| {
            let event: Value = serde_json::from_str(line)?;
            event["port"].as_u64().with_context(|| line.clone())
        })
        .collect()
}

fn filters(env: &TestEnv) -> anyhow::Result<()> {
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
    let monitors: Vec<_> = (filters.iter())
        .map(|(filter, _)| MonitorClient::start(&instance, filter))
        .collect::<Result<_, _>>()?;
    for probe in [
        Probe::user(33).in_cgroup(&cgroup).bind(Attempt::tcp(80)),
        Probe::user(0).bind(Attempt::tcp(81)),
        Probe::user(1000).bind(Attempt::tcp(82)),
    ] {
        probe.run()?;
    }
    // Monitors get all decisions made before the end.
    let ended = instance.stop()?;
    for ((filter, expected), monitor) in filters.iter().zip(monitors) {
        let lines = monitor.rest()?;
        ensure!(ports(&lines)? == *expected, "{filter:?}: {lines:?}");
        let same = lines.iter().all(|line| ended.stdout.contains(line));
        ensure!(same, "{filter:?}, not as on stdout: {lines:?}");
    }
    ensure!(ports(&ended.stdout)? == [80, 81, 82], "{:?}", ended.stdout);
    Ok(())
}

/// Decisions of a round, and rounds: more than are queued for a monitor that does not read.
const ROUND: u64 = 400;
const ROUNDS: u64 = 12;

/// A stopped monitor delays no other, and learns how many decisions it missed.
fn slow_reader(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    let (slow, fast) = (
        MonitorClient::start(&instance, &[])?,
        MonitorClient::start(&instance, &[])?,
    );
    slow.signal(Signal::STOP)?;
    for round in 1..=ROUNDS {
        let ended = BindLoad::start(7, 702, ROUND).join()?;
        ensure!(
            ended.get(&env.denial(instance.hook)) == Some(&ROUND),
            "{ended:?}"
        );
        // The other monitor gets all of them meanwhile.
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
    let (mut received, mut dropped) = (0, 0);
    while received + dropped < ROUND * ROUNDS {
        let line = slow.next()?;
        let event: Value = serde_json::from_str(&line)?;
        match event["dropped"].as_u64() {
            Some(number) => dropped += number,
            None => received += 1,
        }
    }
    ensure!(
        received + dropped == ROUND * ROUNDS && dropped > 0 && received > 0,
        "{received} received, {dropped} dropped of {}",
        ROUND * ROUNDS
    );
    let status = instance.status()?;
    ensure!(status["dropped"]["ring_full"] == 0, "{status}");
    let ended = instance.stop()?;
    for monitor in [slow, fast] {
        let rest = monitor.rest()?;
        ensure!(rest.is_empty(), "received twice: {rest:?}");
    }
    ensure!(
        ended.stdout.len() as u64 == ROUND * ROUNDS,
        "{} on stdout",
        ended.stdout.len()
    );
    println!("monitor: {received} received, {dropped} dropped by one that was stopped");
    Ok(())
}

/// The group with access, a member, and a user outside it.
const GROUP: u32 = 4242;
const MEMBER: u32 = 1000;
const OTHER: u32 = 1001;

fn as_user(mut command: Command, uid: u32, gid: u32) -> Command {
    command.uid(uid).gid(gid);
    command
}

fn access_rights(env: &TestEnv) -> anyhow::Result<()> {
    let group = GROUP.to_string();
    let arguments = ["--no-fold", "--output", "json", "--socket-group", &group];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let socket = instance.socket();
    // Only root may enter the test's temporary directory.
    let directory = socket.parent().context("a directory")?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let command = || instance.command(&["monitor", "--output", "json"]);
    let monitor = MonitorClient::by(as_user(command(), MEMBER, GROUP))?;
    Probe::user(0).bind(Attempt::tcp(81)).run()?;
    let line = monitor.next()?;
    ensure!(ports(std::slice::from_ref(&line))? == [81], "{line}");
    for command in ["status", "reload"] {
        let output = as_user(instance.command(&[command]), MEMBER, GROUP).output()?;
        ensure!(output.status.code() == Some(0), "{command}: {output:?}");
    }
    let detach = as_user(instance.command(&["detach"]), MEMBER, GROUP).output()?;
    refused(&detach, 1, "portguard: only root may detach\n")?;
    let expected = format!(
        "portguard: no permission to connect to {}: only root and the group {GROUP} have access\n",
        socket.display()
    );
    for command in [command(), instance.command(&["status"])] {
        refused(&as_user(command, OTHER, OTHER).output()?, 3, &expected)?;
    }
    instance.stop()?;
    Ok(())
}

fn refused(output: &Output, code: i32, expected: &str) -> anyhow::Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code) && stderr == expected && output.stdout.is_empty(),
        "not {code} {expected:?}: {output:?}"
    );
    Ok(())
}
