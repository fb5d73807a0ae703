//! Health checks, a second daemon, and `detach`.

use super::checks::{deny, expect_decision};
use super::pins::{POLICY, PinCleanup, denied, detach, directory, enforced, free, pinned};
use crate::harness::Table;
use crate::harness::foreign_links;
use crate::harness::instance::{Instance, policy_file, program};
use crate::harness::lines::DEADLINE;
use crate::harness::raw_syscalls::loaded_programs;
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, bail, ensure};
use portguard::kernel::PINS;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

pub(super) const TESTS: Table = &[
    ("pins_detach", Needs::Guest, pins_detach),
    ("health_restores_hooks", Needs::Guest, health_restores_hooks),
    ("two_daemons", Needs::Guest, two_daemons),
];

fn pins_detach(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    let stdout = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let nothing = detach()?;
    ensure!(
        stdout(&nothing).contains("nothing is pinned"),
        "{}",
        stdout(&nothing)
    );
    let before = loaded_programs()?;
    // Without a daemon.
    pinned(env, hook)?.end(Signal::KILL)?;
    let output = detach()?;
    ensure!(
        output.status.code() == Some(0) && stdout(&output).contains("removed the pins"),
        "{output:?}"
    );
    ensure!(!Path::new(PINS).exists(), "{PINS} is left");
    free()?;
    // With a daemon, which ends too.
    for arguments in [&["--pin"][..], &[]] {
        let instance = Instance::start_by(env, POLICY, hook, arguments)?;
        enforced(env, hook)?;
        if !arguments.is_empty() {
            let held = detach()?;
            ensure!(
                held.status.code() == Some(3),
                "it removed a daemon's pins: {held:?}"
            );
            let stderr = String::from_utf8_lossy(&held.stderr).into_owned();
            let who = format!("another portguard (pid {}) holds the pins", instance.pid());
            ensure!(stderr.contains(&who), "the pid is not named: {stderr}");
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

/// The pin of the map of the policy in force, which has its id in its name.
fn policy_pin(pins: &Path) -> anyhow::Result<PathBuf> {
    let paths = std::fs::read_dir(pins)?.flatten().map(|entry| entry.path());
    let of_policy = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("POLICY_"))
    };
    let found: Vec<PathBuf> = paths.filter(of_policy).collect();
    match &found[..] {
        [pin] => Ok(pin.clone()),
        _ => bail!("not one map of a policy in {}: {found:?}", pins.display()),
    }
}

/// Hooks detached behind a running daemon are found, counted and restored.
fn health_restores_hooks(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    let arguments = ["--pin", "--no-fold", "--check-every", "1"];
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    let pins = directory()?;
    let mut reattached = 0;
    let mut damages: Vec<(PathBuf, bool)> = vec![
        (pins.join("link_bind4"), true),
        (pins.join("link_bind6"), false),
        (pins.join("META"), false),
        (pins.join("TRIE"), false),
        (policy_pin(&pins)?, false),
    ];
    if hook == "lsm" {
        damages.push((pins.join("link_socket_bind"), false));
    }
    for (path, behind) in damages {
        if behind {
            foreign_links::detach(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
        instance.wait_for("enforcement degraded")?;
        instance.wait_for("hooks re-attached")?;
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
    ensure!(after.stderr.contains("took over"), "{}", after.stderr);
    after.stop()?;
    Ok(())
}

fn two_daemons(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let first = pinned(env, env.auto_hook())?;
    let socket = first.socket();
    let other = std::env::temp_dir().join("another-socket");
    for (socket, message) in [
        (
            &socket,
            format!("process {} (portguardd) already listens on", first.pid()),
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
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(3) && stderr.contains(&message),
            "the second ended with {} and {stderr:?}, not {message:?}",
            output.status
        );
    }
    expect_decision(env, &first, &denied(), deny("no-root"))?;
    first.stop()?;
    Ok(())
}
