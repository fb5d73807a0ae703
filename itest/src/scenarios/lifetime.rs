//! A life of portguard: signals, a stopped daemon, new cgroups, a storm of binds.

use super::Table;
use super::checks::{allow, answer, deny, judged};
use super::decisions::POLICY;
use crate::harness::bind_runner::{ADDRESS, Cgroups, attempt, name_of};
use crate::harness::instance::{Ended, Instance};
use crate::harness::probe::{Answer, Attempt, Probe};
use crate::harness::raw_syscalls::loaded_programs;
use crate::harness::{Needs, TestEnv};
use crate::oracle::{OracleBind, Proto, slashed};
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    (
        "signals_leave_nothing",
        Needs::Nothing,
        signals_leave_nothing,
    ),
    (
        "new_cgroups_while_stopped",
        Needs::Nothing,
        new_cgroups_while_stopped,
    ),
    ("storm", Needs::Nothing, storm),
];

/// Cgroups that are made while the daemon cannot look.
const CGROUPS: usize = 200;
/// Binds of each of the two processes of the storm.
const STORM: usize = 500;

fn signals_leave_nothing(env: &TestEnv) -> anyhow::Result<()> {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let before = loaded_programs()?;
        let instance = Instance::start(env, POLICY)?;
        judged(
            env,
            &instance,
            &Probe::user(33).bind(Attempt::tcp(80)),
            allow("web"),
        )?;
        judged(
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
            answer(&Probe::user(33).bind(Attempt::tcp(80)))? == libc::EACCES,
            "a grant outlives {signal:?}"
        );
        ensure!(
            answer(&Probe::user(0).bind(Attempt::tcp(81)))? == 0,
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

/// A portguard that is stopped; it goes on when this is dropped, whatever happens.
pub(super) struct Stopped<'a>(&'a Instance);

impl<'a> Stopped<'a> {
    pub(super) fn new(instance: &'a Instance) -> anyhow::Result<Self> {
        instance.signal(Signal::STOP)?;
        Ok(Self(instance))
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.signal(Signal::CONT) {
            eprintln!("{error:#}");
        }
    }
}

fn new_cgroups_while_stopped(env: &TestEnv) -> anyhow::Result<()> {
    let top = format!("pgnew-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, rules: [
            {{ name: in, action: allow, ports: [80], cgroups: [\"/{top}/in\"] }},
            {{ name: out, action: deny, ports: [80], cgroups: [\"/{top}\"] }}] }}"
    );
    let instance = Instance::start(env, &policy)?;
    let inside = |number: usize| number.is_multiple_of(2);
    let binds: Vec<OracleBind> = (0..CGROUPS)
        .map(|number| {
            let parent = if inside(number) { "in" } else { "out" };
            bind_in([top.clone(), parent.to_owned(), format!("c{number}")])
        })
        .collect();
    let mut made = Cgroups::default();
    let errnos = {
        let _stopped = Stopped::new(&instance)?;
        for bind in &binds {
            made.make(&bind.cgroup)?;
        }
        attempt(&binds.iter().collect::<Vec<_>>())?
    };
    let events = instance.events()?;
    for (number, (bind, seen)) in binds.iter().zip(errnos).enumerate() {
        let want = match (inside(number), env.grants()) {
            (true, true) => 0,
            (true, false) => libc::EACCES,
            (false, _) => env.denial(instance.hook),
        };
        let path = slashed(&bind.cgroup);
        ensure!(seen == want, "errno {seen} instead of {want} in {path}");
        let comm = name_of(number);
        let of_it: Vec<_> = events
            .iter()
            .filter(|event| event["comm"] == comm)
            .collect();
        let word = if inside(number) { "allow" } else { "deny" };
        let right = matches!(of_it[..], [event]
            if event["verdict"] == word && event["cgroup"] == path.as_str());
        ensure!(right, "{word} in {path} is reported as {of_it:?}");
    }
    Ok(())
}

/// A bind of port 80 from a cgroup.
fn bind_in(cgroup: [String; 3]) -> OracleBind {
    OracleBind {
        port: 80,
        protocol: Proto::Tcp,
        uid: 1000,
        euid: 1000,
        gids: vec![1000],
        cgroup: cgroup.into(),
        address: ADDRESS.into(),
        v6only: false,
    }
}

fn storm(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    let one = |uid: u32, shift: usize| {
        let mut probe = Probe::user(uid);
        for number in 0..STORM {
            // Addresses of their own: the processes must not meet.
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
    for (running, (probe, wants)) in running.into_iter().zip(&plans) {
        let answers = running.wait()?;
        ensure!(answers.len() == STORM, "{} answers", answers.len());
        for (answer, want) in answers.iter().zip(wants.iter().cycle()) {
            ensure!(
                *answer == Answer::Bound(*want),
                "{answer:?} instead of {want} for uid {:?}",
                probe.uids
            );
        }
    }
    summed_up(&instance.stop()?)
}

/// The counters are exact, and every decision is either reported or counted as lost.
fn summed_up(ended: &Ended) -> anyhow::Result<()> {
    let (allowed, denied) = (STORM.div_ceil(3), (STORM - 1).div_ceil(3));
    let all = 2 * STORM;
    let start = format!(
        "portguard: decided {all}: {allowed} allow, {denied} deny, {} kernel; ",
        all - allowed - denied
    );
    let lost: u64 = ended
        .said
        .lines()
        .find_map(|line| line.strip_prefix(&start)?.strip_suffix(" events lost"))
        .with_context(|| format!("no line \"{start}N events lost\": {}", ended.said))?
        .parse()?;
    let mut reported = 0;
    for line in &ended.rest {
        let event: serde_json::Value = serde_json::from_str(line)?;
        reported += event["count"].as_u64().context("count")?;
    }
    ensure!(
        reported + lost == u64::try_from(all)?,
        "{reported} decisions reported, {lost} lost, of {all}"
    );
    Ok(())
}
