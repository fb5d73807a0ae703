//! Faults of the way out of the kernel: more events than it holds.

use super::{lost, reported};
use crate::harness::bind_load::BindLoad;
use crate::harness::bind_runner::{ADDRESS, Cgroups, attempt};
use crate::harness::instance::Instance;
use crate::harness::probe::{Answer, Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use crate::oracle::{OracleBind, Proto};
use crate::scenarios::Table;
use crate::scenarios::lifetime::Stopped;
use crate::scenarios::pins::{POLICY, enforced};
use anyhow::{Context as _, ensure};

pub(super) const TESTS: Table = &[
    ("fault_ring_full", Needs::Guest, fault_ring_full),
    (
        "fault_ring_full_folding",
        Needs::Guest,
        fault_ring_full_folding,
    ),
    ("fault_uid_quota", Needs::Guest, fault_uid_quota),
];

/// More than the ring holds.
const BINDS: u64 = 12_000;

fn fault_ring_full(env: &TestEnv) -> anyhow::Result<()> {
    let hook = env.auto_hook();
    let instance = Instance::start_by(env, POLICY, hook, &["--no-fold"])?;
    {
        let _stopped = Stopped::new(&instance)?;
        let ended = BindLoad::start(4, 81, BINDS).join()?;
        ensure!(
            ended.get(&env.denial(hook)) == Some(&BINDS),
            "verdicts changed: {ended:?}"
        );
        enforced(env, hook)?;
    }
    let status = instance.status()?;
    let denials = BINDS + 1;
    ensure!(status["decisions"]["deny"] == denials, "{status}");
    let dropped = status["drops"]["ring_full"].as_u64().context("drops")?;
    let stdout = status["drops"]["stdout"].as_u64().context("drops")?;
    let ended = instance.stop()?;
    let (deny, allow) = (
        reported(&ended.rest, "deny")?,
        reported(&ended.rest, "allow")?,
    );
    let gone = lost(&ended)?;
    ensure!(
        dropped > 0 && deny + allow + gone == denials + 1 && gone >= dropped,
        "{deny} and {allow} reported, {dropped} dropped, {stdout} by stdout, {gone} lost"
    );
    Ok(())
}

/// Cgroups whose paths, at four kilobytes each, fill the ring.
const CGROUPS: usize = 280;

fn fault_ring_full_folding(env: &TestEnv) -> anyhow::Result<()> {
    let top = format!("pgring-{}", std::process::id());
    let policy =
        format!("{POLICY}  - {{ name: here, action: deny, ports: [82], cgroups: [\"/{top}\"] }}\n");
    let instance = Instance::start_by(env, &policy, env.auto_hook(), &[])?;
    let refusal = env.denial(instance.hook);
    let mut made = Cgroups::default();
    {
        let _stopped = Stopped::new(&instance)?;
        let mut binds = Vec::new();
        for number in 0..CGROUPS {
            let cgroup = vec![top.clone(), format!("c{number}")];
            made.make(&cgroup)?;
            binds.push(OracleBind {
                port: 82,
                protocol: Proto::Tcp,
                uid: 1000,
                euid: 1000,
                gids: vec![1000],
                cgroup,
                address: ADDRESS.into(),
                v6only: false,
            });
        }
        let errnos = attempt(&binds.iter().collect::<Vec<_>>())?;
        ensure!(errnos.iter().all(|errno| *errno == refusal), "{errnos:?}");
        // The first of these finds no room for its event either.
        let ended = BindLoad::start(5, 81, BINDS).join()?;
        ensure!(ended.get(&refusal) == Some(&BINDS), "{ended:?}");
    }
    let ended = instance.stop()?;
    let (deny, gone) = (reported(&ended.rest, "deny")?, lost(&ended)?);
    let all = BINDS + CGROUPS as u64;
    ensure!(
        deny == all && gone == 0,
        "{deny} of {all} reported, {gone} lost"
    );
    Ok(())
}

/// Protects as many ports as one uid needs, and the one of the test's own binds.
const MANY: &str = "{ version: 1, protect: [999, \"2000-3199\"], \
                    rules: [{ name: closed, action: deny, ports: [\"2000-3199\"] }] }";
const FIRST: u16 = 2000;
const PORTS: u16 = 1200;
/// `UID_QUOTA` of the kernel's side.
const QUOTA: u64 = portguard_common::UID_QUOTA;

fn fault_uid_quota(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start_by(env, MANY, env.auto_hook(), &[])?;
    let refused = Answer::Bound(env.denial(instance.hook));
    {
        let _stopped = Stopped::new(&instance)?;
        // Parts: an argument of a process has its length.
        for first in (FIRST..FIRST + PORTS).step_by(400) {
            let mut probe = Probe::user(1000);
            for port in first..first + 400 {
                probe = probe.bind(Attempt::udp(port));
            }
            let answers = probe.run()?;
            ensure!(
                answers.iter().all(|answer| *answer == refused),
                "{answers:?}"
            );
        }
        let answers = Probe::user(1001).bind(Attempt::udp(FIRST)).run()?;
        ensure!(answers == [refused], "{answers:?}");
    }
    let status = instance.status()?;
    let over = u64::from(PORTS) - QUOTA;
    ensure!(
        status["drops"]["uid_quota"] == over && status["drops"]["ring_full"] == 0,
        "not {over} dropped: {status}"
    );
    let ended = instance.stop()?;
    let deny = reported(&ended.rest, "deny")?;
    ensure!(
        deny == QUOTA + 1 && lost(&ended)? == over,
        "{deny} reported"
    );
    let other = ended.rest.iter().any(|line| line.contains("\"uid\":1001,"));
    ensure!(other, "the event of the other user is lost");
    Ok(())
}
