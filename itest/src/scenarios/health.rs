//! What keeps enforcement in place, and what ends it: health, one daemon at a time, `detach`.

use super::Table;
use super::checks::{deny, judged};
use super::pins::{POLICY, PinCleanup, denied, detach, directory, enforced, free, pinned};
use crate::harness::foreign_links;
use crate::harness::instance::{DEADLINE, Instance, policy_file, program};
use crate::harness::raw_syscalls::loaded_programs;
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use portguard::kernel::PINS;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

pub(super) const TESTS: Table = &[
    ("pins_detach", Needs::Guest, pins_detach),
    ("health", Needs::Guest, health),
    ("two_daemons", Needs::Guest, two_daemons),
];

fn pins_detach(env: &TestEnv) -> anyhow::Result<()> {
    let _tidy = PinCleanup;
    let hook = env.auto_hook();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let nothing = detach()?;
    ensure!(
        said(&nothing).contains("nothing is pinned"),
        "{}",
        said(&nothing)
    );
    let before = loaded_programs()?;
    // Without a daemon.
    pinned(env, hook)?.end(Signal::KILL)?;
    let output = detach()?;
    ensure!(
        output.status.code() == Some(0) && said(&output).contains("removed the pins"),
        "{output:?}"
    );
    ensure!(!Path::new(PINS).exists(), "{PINS} is left");
    free()?;
    // With one, pinned and not: it ends too.
    for arguments in [&["--pin"][..], &[]] {
        let instance = Instance::start_by(env, POLICY, hook, arguments)?;
        enforced(env, hook)?;
        if !arguments.is_empty() {
            let held = detach()?;
            ensure!(
                held.status.code() == Some(3),
                "it took a daemon's pins away: {held:?}"
            );
            let why = String::from_utf8_lossy(&held.stderr).into_owned();
            let who = format!("another portguard (pid {}) holds the pins", instance.pid());
            ensure!(why.contains(&who), "it does not say who: {why}");
        }
        let output = instance.command(&["detach"]).output()?;
        ensure!(output.status.code() == Some(0), "{output:?}");
        let ended = instance.end_by_itself()?;
        ensure!(
            ended.status.code() == Some(0),
            "it ended with {}",
            ended.status
        );
        ensure!(!Path::new(PINS).exists(), "{PINS} is left");
        free()?;
    }
    let until = Instant::now() + DEADLINE;
    while loaded_programs()? > before {
        ensure!(Instant::now() < until, "programs are left");
        std::thread::yield_now();
    }
    Ok(())
}

/// Hooks that are taken away from a running daemon are noticed, counted and put back.
fn health(env: &TestEnv) -> anyhow::Result<()> {
    let _tidy = PinCleanup;
    let hook = env.auto_hook();
    let arguments = ["--pin", "--no-fold", "--check-every", "1"];
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    let pins = directory()?;
    let mut reattached = 0;
    let mut harms: Vec<(PathBuf, bool)> = vec![
        (pins.join("link_bind4"), true),
        (pins.join("link_bind6"), false),
        (pins.join("META"), false),
        (pins.join("TRIE"), false),
    ];
    if hook == "lsm" {
        harms.push((pins.join("link_socket_bind"), false));
    }
    for (path, behind) in harms {
        if behind {
            foreign_links::detach(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
        instance.wait_for("NOT ENFORCING as it should")?;
        instance.wait_for("the hooks are back in place")?;
        reattached += 1;
        enforced(env, hook).with_context(|| format!("after {}", path.display()))?;
        let status = instance.status()?;
        ensure!(
            status["reattached"] == reattached && status["enforcing"] == "enforce",
            "after {}: {status}",
            path.display()
        );
    }
    instance.end(Signal::KILL)?;
    enforced(env, hook)?;
    let after = pinned(env, hook)?;
    ensure!(after.said.contains("took over"), "{}", after.said);
    after.stop()?;
    Ok(())
}

fn two_daemons(env: &TestEnv) -> anyhow::Result<()> {
    let _tidy = PinCleanup;
    let first = pinned(env, env.auto_hook())?;
    let socket = first.socket();
    let other = std::env::temp_dir().join("another-socket");
    for (socket, said) in [
        (
            &socket,
            format!("process {} (portguard) listens on", first.pid()),
        ),
        (
            &other,
            format!("another portguard (pid {}) holds the pins", first.pid()),
        ),
    ] {
        let file = policy_file(POLICY)?;
        let output = Command::new(program())
            .args(["run", "--pin", "--policy"])
            .arg(file.path())
            .arg("--socket")
            .arg(socket)
            .output()?;
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(3) && why.contains(&said),
            "the second ended with {} and said {why:?}, not {said:?}",
            output.status
        );
    }
    judged(env, &first, &denied(), deny("no-root"))?;
    first.stop()?;
    Ok(())
}
