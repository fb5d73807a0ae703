//! Pins: enforcement that outlives its daemon, and the next start that takes it over.

use super::checks::{allow, deny, errno_of, expect_decision};
use crate::harness::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::env::by_kernel;
use crate::harness::foreign_links;
use crate::harness::instance::{Instance, program};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use portguard::kernel::PINS;
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

pub(super) const TESTS: Table = &[
    ("pins_outlive_kill", Needs::Guest, pins_outlive_kill),
    ("pins_replaced", Needs::Guest, pins_replaced),
    (
        "pins_killed_at_any_moment",
        Needs::Guest,
        pins_killed_at_any_moment,
    ),
];

/// What a start makes of pins that something else changed.
pub(super) const DAMAGED: Table = &[("pins_damaged", Needs::Guest, pins_damaged)];

pub(super) const POLICY: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81], users: [0] }
";

/// Removes all pins when dropped.
pub(super) struct PinCleanup;

impl Drop for PinCleanup {
    fn drop(&mut self) {
        if let Err(error) = detach() {
            eprintln!("{error:#}");
        }
    }
}

pub(super) fn detach() -> anyhow::Result<Output> {
    let socket = Path::new("/nonexistent/socket");
    let mut command = Command::new(program());
    Ok(command.arg("detach").arg("--socket").arg(socket).output()?)
}

pub(super) fn pinned(env: &TestEnv, hook: &'static str) -> anyhow::Result<Instance> {
    Instance::start_by(env, POLICY, hook, &["--pin", "--no-fold"])
}

/// The directory of the pins.
pub(super) fn directory() -> anyhow::Result<PathBuf> {
    let mut entries = std::fs::read_dir(PINS)?;
    let entry = entries.next().context("nothing is pinned")??;
    ensure!(
        entries.next().is_none(),
        "more than one directory in {PINS}"
    );
    Ok(entry.path())
}

pub(super) fn granted() -> Probe {
    Probe::user(33).bind(Attempt::tcp(80))
}

pub(super) fn denied() -> Probe {
    Probe::user(0).bind(Attempt::tcp(81))
}

/// Both binds end as the policy says.
pub(super) fn enforced(env: &TestEnv, hook: &str) -> anyhow::Result<()> {
    let expected = if env.grants() { 0 } else { libc::EACCES };
    let actual = errno_of(&granted())?;
    ensure!(
        actual == expected,
        "errno {actual}, expected {expected}, for the grant"
    );
    let (actual, expected) = (errno_of(&denied())?, env.denial(hook));
    ensure!(
        actual == expected,
        "errno {actual}, expected {expected}, for the denial"
    );
    Ok(())
}

/// Both binds end as without portguard.
pub(super) fn free() -> anyhow::Result<()> {
    for probe in [granted(), denied()] {
        let port = if probe.uids[0] == 0 { 81 } else { 80 };
        let (actual, expected) = (errno_of(&probe)?, by_kernel(probe.uids[1], port));
        ensure!(
            actual == expected,
            "errno {actual} on {port}: something is still enforced"
        );
    }
    Ok(())
}

fn pins_outlive_kill(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    for hook in env.deciding_hooks() {
        let first = pinned(env, hook)?;
        expect_decision(env, &first, &granted(), allow("web"))?;
        expect_decision(env, &first, &denied(), deny("no-root"))?;
        let before = first.status()?;
        let pid = first.pid();
        first.end(Signal::KILL)?;
        enforced(env, hook)?;
        // Without a daemon `status` reads the pins, which keep all counts.
        let output = Command::new(program())
            .args(["status", "--json", "--socket", "/nonexistent/socket"])
            .output()?;
        let alone: Value = serde_json::from_slice(&output.stdout).context("status by the pins")?;
        ensure!(
            output.status.code() == Some(1) && alone["daemon"].is_null(),
            "status by the pins: {alone}"
        );
        ensure!(
            alone["policy"] == before["policy"] && alone["hook"] == before["hook"],
            "another policy: {alone}"
        );
        ensure!(
            alone["decisions"]["deny"] == 2 && hits(&alone, "no-root") == Some(2),
            "not two denials: {alone}"
        );
        // The next daemon reports what was decided without one.
        let second = pinned(env, hook)?;
        ensure!(
            second
                .stderr
                .contains(&format!("took over the pinned programs of pid {pid}")),
            "not taken over:\n{}",
            second.stderr
        );
        let events = second.events()?;
        let verdicts: Vec<_> = events
            .iter()
            .map(|event| event["verdict"].clone())
            .collect();
        ensure!(
            events.len() == 2 && verdicts == ["allow", "deny"],
            "the binds without a daemon: {events:?}"
        );
        expect_decision(env, &second, &denied(), deny("no-root"))?;
        let now = second.status()?;
        ensure!(
            now["decisions"]["deny"] == 3 && hits(&now, "no-root") == Some(3),
            "not three denials: {now}"
        );
        let ended = second.stop()?;
        ensure!(
            ended.stderr.contains("the pins keep enforcing"),
            "not reported: {}",
            ended.stderr
        );
        enforced(env, hook)?;
        detach()?;
        free()?;
    }
    Ok(())
}

fn hits(status: &Value, rule: &str) -> Option<u64> {
    let rules = status["rules"].as_array()?;
    rules.iter().find(|of| of["name"] == rule)?["hits"].as_u64()
}

/// After any damage to the pins the next start reports it and enforces.
fn pins_damaged(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    type Damage = (&'static str, fn(&Path) -> anyhow::Result<()>);
    let damages: [Damage; 5] = [
        (
            "the link of bind4 was detached, though its pin remains",
            |pins| foreign_links::detach(&pins.join("link_bind4")),
        ),
        ("the pin of bind6's link is gone", |pins| {
            Ok(std::fs::remove_file(pins.join("link_bind6"))?)
        }),
        (
            "the pin of bind6's link belongs to another program",
            |pins| foreign_links::replace(&pins.join("link_bind4"), &pins.join("link_bind6")),
        ),
        (
            "the pinned map COUNTERS has another layout than this version's",
            |pins| foreign_links::replace_by_array(&pins.join("COUNTERS")),
        ),
        ("left by an unfinished start", |pins| {
            Ok(std::fs::remove_file(pins.join("META"))?)
        }),
    ];
    let hook = env.auto_hook();
    pinned(env, hook)?.end(Signal::KILL)?;
    for (message, damage) in damages {
        damage(&directory()?)?;
        let next = pinned(env, hook)?;
        ensure!(
            next.stderr.contains(message),
            "no {message:?}:\n{}",
            next.stderr
        );
        expect_decision(env, &next, &granted(), allow("web"))?;
        expect_decision(env, &next, &denied(), deny("no-root"))?;
        let status = next.status()?;
        ensure!(status["enforcing"] == "enforce", "{message}: {status}");
        next.end(Signal::KILL)?;
        enforced(env, hook)?;
        // The pins that it left are intact.
        let after = pinned(env, hook)?;
        ensure!(
            after.stderr.contains("took over"),
            "{message}:\n{}",
            after.stderr
        );
        after.end(Signal::KILL)?;
    }
    Ok(())
}

/// Pins of another version or hook are replaced without a gap in enforcement.
fn pins_replaced(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    let refusal = env.denial(hook);
    pinned(env, hook)?.end(Signal::KILL)?;
    let load = BindLoad::start(1, 81, u64::MAX);
    // The directory of an older ABI.
    let pins = directory()?;
    std::fs::rename(&pins, pins.with_file_name("v1"))?;
    let next = pinned(env, hook)?;
    ensure!(
        next.stderr
            .contains("the pins of another version are replaced"),
        "not reported:\n{}",
        next.stderr
    );
    directory()?;
    next.end(Signal::KILL)?;
    // Replaced by the pins of each hook.
    for hook in env.deciding_hooks().chain([hook]) {
        pinned(env, hook)?.end(Signal::KILL)?;
    }
    // The leftover of a killed start, beside the pins in force.
    let leftover = Path::new(PINS).join("v3_new_1");
    std::fs::create_dir(&leftover)?;
    pinned(env, hook)?.end(Signal::KILL)?;
    ensure!(!leftover.exists(), "{} is left", leftover.display());
    let ended = load.stop()?;
    let refused: u64 = (ended.iter())
        .filter(|(errno, _)| **errno == refusal || **errno == env.denial("cgroup"))
        .map(|(_, count)| count)
        .sum();
    let all: u64 = ended.values().sum();
    ensure!(
        refused == all && all > 100,
        "{refused} of {all} binds were refused: {ended:?}"
    );
    enforced(env, hook)
}

/// This policy too denies root port 81, but by other tables.
const OTHER: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81], cgroups: [\"/**\"], addresses: [127.0.0.0/8] }
";

/// Killed at up to twelve moments of a start and of a reload, portguard always leaves one whole policy in force.
fn pins_killed_at_any_moment(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    pinned(env, hook)?.end(Signal::KILL)?;
    let load = BindLoad::start(2, 81, u64::MAX);
    let file = crate::harness::instance::policy_file(OTHER)?;
    let every = if env.repeats_fully() { 1 } else { 3 };
    for moment in (0..12u64).step_by(every) {
        let mut child = Command::new(program())
            .args(["run", "--pin", "--socket", "/tmp/killed", "--policy"])
            .arg(file.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        // Moments spread over the whole start.
        std::thread::sleep(Duration::from_millis(moment * moment * 8));
        child.kill()?;
        child.wait()?;
        enforced(env, hook).with_context(|| format!("killed at moment {moment} of a start"))?;
    }
    for moment in (0..12u64).step_by(every) {
        let instance = pinned(env, hook)?;
        for policy in [OTHER, POLICY, OTHER] {
            instance.change(policy)?;
            instance.signal(Signal::HUP)?;
            std::thread::sleep(Duration::from_millis(moment % 7));
        }
        instance.end(Signal::KILL)?;
        enforced(env, hook).with_context(|| format!("killed at moment {moment} of a reload"))?;
    }
    let ended = load.stop()?;
    let all: u64 = ended.values().sum();
    ensure!(
        ended.len() == 1 && !ended.contains_key(&0) && all > 100,
        "not every bind was refused: {ended:?}"
    );
    let last = pinned(env, hook)?;
    // Until it has read them, the ring may be full of events that no daemon had read.
    last.lines_until_now()?;
    expect_decision(env, &last, &denied(), deny("no-root"))?;
    last.stop()?;
    Ok(())
}
