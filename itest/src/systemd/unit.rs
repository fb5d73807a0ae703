//! The unit under test: systemctl, its policy file and its journal.

use crate::harness::lines::DEADLINE;
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub(super) const UNIT: &str = "portguard.service";
const DROP_INS: &str = "/run/systemd/system/portguard.service.d";
const POLICY: &str = "/etc/portguard/policies/10-guest.yaml";

pub(super) fn systemctl(arguments: &[&str]) -> anyhow::Result<Output> {
    command("systemctl", arguments)
}

pub(super) fn command(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| program.to_owned())
}

/// `systemctl VERB portguard.service`, which must succeed.
pub(super) fn unit(verb: &str) -> anyhow::Result<()> {
    let output = systemctl(&[verb, UNIT])?;
    ensure!(
        output.status.success(),
        "systemctl {verb}: {}{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        journal()?
    );
    Ok(())
}

pub(super) fn property(name: &str) -> anyhow::Result<String> {
    property_of(UNIT, name)
}

pub(super) fn property_of(unit: &str, name: &str) -> anyhow::Result<String> {
    let output = systemctl(&["show", "--value", "--property", name, unit])?;
    ensure!(output.status.success(), "systemctl show {name} {unit}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The daemon's pid; 0 while there is none.
pub(super) fn main_pid() -> anyhow::Result<i32> {
    let pid = property("MainPID")?;
    pid.parse().with_context(|| format!("MainPID={pid}"))
}

pub(super) fn signal(pid: i32, signal: Signal) -> anyhow::Result<()> {
    let process = Pid::from_raw(pid).context("there is no daemon")?;
    kill_process(process, signal).context("the daemon is gone")
}

/// Waits until systemd has started another daemon and it is ready.
pub(super) fn wait_for_another(before: i32) -> anyhow::Result<()> {
    let until = Instant::now() + DEADLINE;
    loop {
        let pid = main_pid()?;
        if pid != 0 && pid != before && property("ActiveState")? == "active" {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "no new daemon in place of {before}: {}, {}\n{}",
            property("ActiveState")?,
            property("SubState")?,
            journal()?
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The last 20 lines of the unit's journal.
pub(super) fn journal() -> anyhow::Result<String> {
    let output = command(
        "journalctl",
        &["-q", "--no-pager", "-o", "cat", "-n", "20", "-u", UNIT],
    )?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Replaces the unit's policy; the next start or reload reads it.
pub(super) fn write_policy(text: &str) -> anyhow::Result<()> {
    // By rename, as editors do it: the daemon never sees half a file.
    let next = Path::new(POLICY).with_extension("new");
    fs::write(&next, text)?;
    fs::rename(&next, POLICY).with_context(|| POLICY.to_owned())
}

/// A drop-in of the unit, removed when dropped.
pub(super) struct DropIn(String);

impl DropIn {
    /// With these lines in the section `[Service]`.
    pub(super) fn new(name: &str, service: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(DROP_INS)?;
        let path = format!("{DROP_INS}/{name}.conf");
        fs::write(&path, format!("[Service]\n{service}\n"))?;
        let made = Self(path);
        let output = systemctl(&["daemon-reload"])?;
        ensure!(output.status.success(), "systemctl daemon-reload");
        Ok(made)
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("{}: {error}", self.0);
        }
        if let Err(error) = systemctl(&["daemon-reload"]) {
            eprintln!("{error:#}");
        }
    }
}
