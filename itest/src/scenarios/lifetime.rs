//! Signals, a stopped daemon, a storm of binds.

use super::checks::{allow, deny, errno_of, expect_decision};
use super::decisions::POLICY;
use crate::harness::cgroups::Cgroups;
use crate::harness::events::decisions;
use crate::harness::frozen::Frozen;
use crate::harness::instance::{Ended, Instance};
use crate::harness::oracle_probe::errnos;
use crate::harness::probe::{Attempt, BindResult, Probe};
use crate::harness::raw_syscalls::loaded_programs;
use crate::harness::{Needs, SharedInstance, SharedTable, Table, TestEnv};
use crate::oracle::{OracleBind, slashed};
use anyhow::ensure;
use rustix::process::Signal;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[("storm", Needs::Nothing, storm)];

pub(super) const ENDS: Table = &[(
    "signals_leave_nothing",
    Needs::Nothing,
    signals_leave_nothing,
)];

pub(super) const SHARED: SharedTable = &[(
    "cgroups_made_while_stopped",
    Needs::Nothing,
    cgroups_made_while_stopped,
)];

/// Cgroups made while the daemon is stopped.
const CGROUPS: usize = 200;
/// Binds of each of the two processes of the storm.
const STORM: usize = 500;

fn signals_leave_nothing(env: &TestEnv) -> anyhow::Result<()> {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let before = loaded_programs()?;
        let instance = Instance::start(env, POLICY)?;
        expect_decision(
            env,
            &instance,
            &Probe::user(33).bind(Attempt::tcp(80)),
            allow("web"),
        )?;
        expect_decision(
            env,
            &instance,
            &Probe::user(0).bind(Attempt::tcp(81)),
            deny("no-root"),
        )?;
        ensure!(
            loaded_programs()? > before,
            "no program is counted while portguard runs"
        );
        let ended = instance.end(signal)?;
        if signal != Signal::KILL {
            ensure!(
                ended.status.code() == Some(0),
                "{signal:?} ended it with {}",
                ended.status
            );
        }
        ensure!(
            errno_of(&Probe::user(33).bind(Attempt::tcp(80)))? == libc::EACCES,
            "a grant outlives {signal:?}"
        );
        ensure!(
            errno_of(&Probe::user(0).bind(Attempt::tcp(81)))? == 0,
            "a denial outlives {signal:?}"
        );
        // The kernel frees programs after a grace period.
        let until = Instant::now() + Duration::from_secs(30);
        while loaded_programs()? > before {
            ensure!(Instant::now() < until, "{signal:?} leaves programs loaded");
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// The programs find the path of a new cgroup by themselves.
fn cgroups_made_while_stopped(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let top = format!("pgnew-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, rules: [
            {{ name: in, action: allow, ports: [80], cgroups: [\"/{top}/in\"] }},
            {{ name: out, action: deny, ports: [80], cgroups: [\"/{top}\"] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let inside = |number: usize| number.is_multiple_of(2);
    let binds: Vec<OracleBind> = (0..CGROUPS)
        .map(|number| {
            let parent = if inside(number) { "in" } else { "out" };
            let cgroup = vec![top.clone(), parent.to_owned(), format!("c{number}")];
            OracleBind::tcp(80, 1000, cgroup)
        })
        .collect();
    let probes: Vec<Probe> = binds.iter().map(Probe::from).collect();
    let mut made = Cgroups::default();
    let errnos = {
        let _frozen = Frozen::new(instance)?;
        for bind in &binds {
            made.make(&bind.cgroup)?;
        }
        errnos(&probes)?
    };
    let events = instance.events()?;
    for (number, (bind, actual)) in binds.iter().zip(errnos).enumerate() {
        let word = if inside(number) { "allow" } else { "deny" };
        let expected = env.enforced(instance.hook, word, true, libc::EACCES);
        let path = slashed(&bind.cgroup);
        ensure!(
            actual == expected,
            "errno {actual}, expected {expected}, in {path}"
        );
        let comm = String::from_utf8_lossy(&probes[number].comm);
        let own: Vec<_> = (events.iter())
            .filter(|event| event["comm"] == *comm)
            .collect();
        let right = matches!(own[..], [event]
            if event["verdict"] == word && event["cgroup"] == path.as_str());
        ensure!(right, "{word} in {path} is reported as {own:?}");
    }
    Ok(())
}

fn storm(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    let one = |uid: u32, shift: usize| {
        let mut probe = Probe::user(uid);
        for number in 0..STORM {
            // Each process has its own addresses, so no address is in use.
            let [.., high, low] = u32::try_from(number).unwrap_or(0).to_be_bytes();
            let address = std::net::Ipv4Addr::new(
                127,
                50 + u8::try_from(shift).unwrap_or(0),
                high,
                low.max(1),
            );
            let port = 80 + u16::try_from(number % 3).unwrap_or(0);
            probe = probe.bind(Attempt::tcp_at(address, port));
        }
        probe
    };
    // uid 33: granted, kernel, kernel; uid 0: kernel, denied, kernel.
    let granted = if env.grants() { 0 } else { libc::EACCES };
    let plans = [
        (one(33, 0), [granted, libc::EACCES, libc::EACCES]),
        (one(0, 1), [0, env.denial(instance.hook), 0]),
    ];
    let running = plans
        .iter()
        .map(|(probe, _)| probe.spawn())
        .collect::<Result<Vec<_>, _>>()?;
    for (running, (probe, expected)) in running.into_iter().zip(&plans) {
        let results = running.wait()?;
        ensure!(results.len() == STORM, "{} results", results.len());
        for (result, expected) in results.iter().zip(expected.iter().cycle()) {
            ensure!(
                *result == BindResult::Bound(*expected),
                "{result:?}, expected {expected}, for uid {:?}",
                probe.uids
            );
        }
    }
    summed_up(&instance.stop()?)
}

/// The counters are exact, and every decision is reported or counted as dropped.
fn summed_up(ended: &Ended) -> anyhow::Result<()> {
    let (allowed, denied) = (STORM.div_ceil(3), (STORM - 1).div_ceil(3));
    let all = 2 * STORM;
    let start = format!(
        "portguard: decided {all}: {allowed} allow, {denied} deny, {} kernel; ",
        all - allowed - denied
    );
    ensure!(
        ended.stderr.contains(&start),
        "no line {start:?}: {}",
        ended.stderr
    );
    let (reported, dropped) = (decisions(&ended.stdout, None)?, ended.dropped()?);
    ensure!(
        reported + dropped == u64::try_from(all)?,
        "{reported} decisions reported, {dropped} dropped, of {all}"
    );
    Ok(())
}
