//! A full ring buffer, and the quota of a uid.

use crate::harness::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::cgroups::Cgroups;
use crate::harness::events::decisions;
use crate::harness::frozen::Frozen;
use crate::harness::instance::Instance;
use crate::harness::oracle_probe::errnos;
use crate::harness::probe::{Attempt, BindResult, Probe};
use crate::harness::{Needs, TestEnv};
use crate::oracle::OracleBind;
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

/// More than the ring buffer holds.
const BINDS: u64 = 12_000;

fn fault_ring_full(env: &TestEnv) -> anyhow::Result<()> {
    let hook = env.auto_hook();
    let instance = Instance::start_by(env, POLICY, hook, &["--no-fold"])?;
    {
        let _frozen = Frozen::new(&instance)?;
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
    let dropped = status["dropped"]["ring_full"].as_u64().context("dropped")?;
    let stdout = status["dropped"]["stdout"].as_u64().context("dropped")?;
    let ended = instance.stop()?;
    let (deny, allow) = (
        decisions(&ended.stdout, Some("deny"))?,
        decisions(&ended.stdout, Some("allow"))?,
    );
    let gone = ended.dropped()?;
    ensure!(
        dropped > 0 && deny + allow + gone == denials + 1 && gone >= dropped,
        "{deny} and {allow} reported, {dropped} dropped, {stdout} by stdout, {gone} dropped"
    );
    Ok(())
}

/// Cgroups whose paths, at four kilobytes each, fill the ring buffer.
const CGROUPS: usize = 280;

fn fault_ring_full_folding(env: &TestEnv) -> anyhow::Result<()> {
    let top = format!("pgring-{}", std::process::id());
    let policy =
        format!("{POLICY}  - {{ name: here, action: deny, ports: [82], cgroups: [\"/{top}\"] }}\n");
    let instance = Instance::start_by(env, &policy, env.auto_hook(), &[])?;
    let refusal = env.denial(instance.hook);
    let mut made = Cgroups::default();
    {
        let _frozen = Frozen::new(&instance)?;
        let mut probes = Vec::new();
        for number in 0..CGROUPS {
            let cgroup = vec![top.clone(), format!("c{number}")];
            made.make(&cgroup)?;
            probes.push(Probe::from(&OracleBind::tcp(82, 1000, cgroup)));
        }
        let errnos = errnos(&probes)?;
        ensure!(errnos.iter().all(|errno| *errno == refusal), "{errnos:?}");
        // The event of the first of these finds no room either.
        let ended = BindLoad::start(5, 81, BINDS).join()?;
        ensure!(ended.get(&refusal) == Some(&BINDS), "{ended:?}");
    }
    let ended = instance.stop()?;
    let (deny, gone) = (decisions(&ended.stdout, Some("deny"))?, ended.dropped()?);
    let all = BINDS + CGROUPS as u64;
    ensure!(
        deny == all && gone == 0,
        "{deny} of {all} reported, {gone} dropped"
    );
    Ok(())
}

/// Protects as many ports as one uid needs, and port 999.
const MANY: &str = "{ version: 1, protect: [999, \"2000-3199\"], \
                    rules: [{ name: closed, action: deny, ports: [\"2000-3199\"] }] }";
const FIRST: u16 = 2000;
const PORTS: u16 = 1200;
/// Different decisions that one uid may have in a second.
const QUOTA: u64 = portguard_common::UID_QUOTA;

fn fault_uid_quota(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start_by(env, MANY, env.auto_hook(), &[])?;
    let refused = BindResult::Bound(env.denial(instance.hook));
    {
        let _frozen = Frozen::new(&instance)?;
        let probe = (FIRST..FIRST + PORTS).fold(Probe::user(1000), |probe, port| {
            probe.bind(Attempt::udp(port))
        });
        let results = probe.run()?;
        ensure!(
            results.iter().all(|result| *result == refused),
            "{results:?}"
        );
        let results = Probe::user(1001).bind(Attempt::udp(FIRST)).run()?;
        ensure!(results == [refused], "{results:?}");
    }
    let status = instance.status()?;
    let over = u64::from(PORTS) - QUOTA;
    ensure!(
        status["dropped"]["uid_quota"] == over && status["dropped"]["ring_full"] == 0,
        "not {over} dropped: {status}"
    );
    let ended = instance.stop()?;
    let deny = decisions(&ended.stdout, Some("deny"))?;
    ensure!(
        deny == QUOTA + 1 && ended.dropped()? == over,
        "{deny} reported"
    );
    let other = ended
        .stdout
        .iter()
        .any(|line| line.contains("\"uid\":1001,"));
    ensure!(other, "the event of the other user was dropped");
    Ok(())
}
