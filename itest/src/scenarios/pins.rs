//! Enforcement that outlives its daemon: by pins that a killed one leaves, that lie, and that the next takes over.

use super::Table;
use super::checks::{allow, answer, by_kernel, deny, judged};
use crate::harness::bind_load::BindLoad;
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
    ("pins_outlive_a_kill", Needs::Guest, pins_outlive_a_kill),
    ("pins_that_lie", Needs::Guest, pins_that_lie),
    ("pins_replaced", Needs::Guest, pins_replaced),
    ("pins_killed_anywhere", Needs::Guest, pins_killed_anywhere),
];

pub(super) const POLICY: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81], users: [0] }
";

/// Removes all pins when dropped, so that no test disturbs the next.
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

/// Both binds as the policy says, whoever reports them.
pub(super) fn enforced(env: &TestEnv, hook: &str) -> anyhow::Result<()> {
    let want = if env.grants() { 0 } else { libc::EACCES };
    let seen = answer(&granted())?;
    ensure!(seen == want, "errno {seen} instead of {want} for the grant");
    let (seen, want) = (answer(&denied())?, env.denial(hook));
    ensure!(
        seen == want,
        "errno {seen} instead of {want} for the denial"
    );
    Ok(())
}

/// Both binds as without portguard.
pub(super) fn free() -> anyhow::Result<()> {
    for probe in [granted(), denied()] {
        let port = if probe.uids[0] == 0 { 81 } else { 80 };
        let (seen, want) = (answer(&probe)?, by_kernel(&probe, port));
        ensure!(
            seen == want,
            "errno {seen} on {port}: something is still enforced"
        );
    }
    Ok(())
}

fn pins_outlive_a_kill(env: &TestEnv) -> anyhow::Result<()> {
    let _tidy = PinCleanup;
    for hook in env.deciding_hooks() {
        let first = pinned(env, hook)?;
        judged(env, &first, &granted(), allow("web"))?;
        judged(env, &first, &denied(), deny("no-root"))?;
        let before = first.status()?;
        let pid = first.pid();
        first.end(Signal::KILL)?;
        enforced(env, hook)?;
        // Without a daemon the pins tell, and nothing that was counted is forgotten.
        let output = Command::new(program())
            .args(["status", "--json", "--socket", "/nonexistent/socket"])
            .output()?;
        let alone: Value = serde_json::from_slice(&output.stdout).context("status by the pins")?;
        ensure!(
            output.status.code() == Some(0) && alone["daemon"].is_null(),
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
        // What was decided without a daemon is still reported.
        let second = pinned(env, hook)?;
        ensure!(
            second
                .said
                .contains(&format!("took over the pinned programs of pid {pid}")),
            "not taken over:\n{}",
            second.said
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
        judged(env, &second, &denied(), deny("no-root"))?;
        let now = second.status()?;
        ensure!(
            now["decisions"]["deny"] == 3 && hits(&now, "no-root") == Some(3),
            "not three denials: {now}"
        );
        let ended = second.stop()?;
        ensure!(
            ended.said.contains("the pins keep enforcing"),
            "it does not say so: {}",
            ended.said
        );
        enforced(env, hook)?;
        detach()?;
        free()?;
    }
    Ok(())
}

/// Decisions by a rule.
fn hits(status: &Value, rule: &str) -> Option<u64> {
    let rules = status["rules"].as_array()?;
    rules.iter().find(|of| of["name"] == rule)?["hits"].as_u64()
}

/// Whatever was done to the pins: the next start says it, and enforces as if nothing had been.
fn pins_that_lie(env: &TestEnv) -> anyhow::Result<()> {
    let _tidy = PinCleanup;
    type Lie = (&'static str, fn(&Path) -> anyhow::Result<()>);
    let lies: [Lie; 5] = [
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
    for (said, lie) in lies {
        pinned(env, hook)?.end(Signal::KILL)?;
        lie(&directory()?)?;
        let next = pinned(env, hook)?;
        ensure!(
            next.said.contains(said),
            "it does not say {said:?}:\n{}",
            next.said
        );
        judged(env, &next, &granted(), allow("web"))?;
        judged(env, &next, &denied(), deny("no-root"))?;
        let status = next.status()?;
        ensure!(status["enforcing"] == "enforce", "{said}: {status}");
        next.end(Signal::KILL)?;
        enforced(env, hook)?;
        // And what it left is right again.
        let after = pinned(env, hook)?;
        ensure!(after.said.contains("took over"), "{said}:\n{}", after.said);
        after.end(Signal::KILL)?;
    }
    Ok(())
}

/// Another hook, another version's directory, another object: replaced, and no bind gets through meanwhile.
fn pins_replaced(env: &TestEnv) -> anyhow::Result<()> {
    let _tidy = PinCleanup;
    let hook = env.auto_hook();
    let refusal = env.denial(hook);
    pinned(env, hook)?.end(Signal::KILL)?;
    let hammer = BindLoad::start(1, 81, u64::MAX);
    // An older ABI: another directory.
    let pins = directory()?;
    std::fs::rename(&pins, pins.with_file_name("v1"))?;
    let next = pinned(env, hook)?;
    ensure!(
        next.said
            .contains("the pins of another version are replaced"),
        "it does not say so:\n{}",
        next.said
    );
    directory()?;
    next.end(Signal::KILL)?;
    // Split over, and replaced by the other hook where there is one.
    for hook in env.deciding_hooks().chain([hook]) {
        pinned(env, hook)?.end(Signal::KILL)?;
    }
    // A start that was killed before its end, beside what is in force.
    let leftover = Path::new(PINS).join("v3_new_1");
    std::fs::create_dir(&leftover)?;
    pinned(env, hook)?.end(Signal::KILL)?;
    ensure!(!leftover.exists(), "{} is left", leftover.display());
    let ended = hammer.stop()?;
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

/// Under either policy root is refused 81, by tables that have nothing in common.
const OTHER: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81], cgroups: [\"/**\"], addresses: [127.0.0.0/8] }
";

/// Killed at twelve moments of a start, and at as many of reloads: what is in force is always one whole policy.
fn pins_killed_anywhere(env: &TestEnv) -> anyhow::Result<()> {
    let _tidy = PinCleanup;
    let hook = env.auto_hook();
    pinned(env, hook)?.end(Signal::KILL)?;
    let hammer = BindLoad::start(2, 81, u64::MAX);
    let file = crate::harness::instance::policy_file(OTHER)?;
    for moment in 0..12u64 {
        let mut child = Command::new(program())
            .args(["run", "--pin", "--socket", "/tmp/killed", "--policy"])
            .arg(file.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        // Spread over a start: none of these moments is special, and that is the point.
        std::thread::sleep(Duration::from_millis(moment * moment * 8));
        child.kill()?;
        child.wait()?;
        enforced(env, hook).with_context(|| format!("killed at moment {moment} of a start"))?;
    }
    for moment in 0..12u64 {
        let instance = pinned(env, hook)?;
        for policy in [OTHER, POLICY, OTHER] {
            instance.change(policy)?;
            instance.signal(Signal::HUP)?;
            std::thread::sleep(Duration::from_millis(moment % 7));
        }
        instance.end(Signal::KILL)?;
        enforced(env, hook).with_context(|| format!("killed at moment {moment} of a reload"))?;
    }
    let ended = hammer.stop()?;
    let all: u64 = ended.values().sum();
    ensure!(
        ended.len() == 1 && !ended.contains_key(&0) && all > 100,
        "not every bind was refused: {ended:?}"
    );
    let last = pinned(env, hook)?;
    judged(env, &last, &denied(), deny("no-root"))?;
    last.stop()?;
    Ok(())
}
