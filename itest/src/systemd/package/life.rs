//! From the installation to a downgrade.

use super::dpkg::{BROKEN, NEW, OLD, apt, apt_done, printed, version};
use crate::harness::TestEnv;
use crate::harness::lines::DEADLINE;
use crate::systemd::guarded::{bind_by, in_force, killed, meanwhile};
use crate::systemd::unit::{
    DropIn, UNIT, command, journal, main_pid, property, systemctl, unit, write_policy,
};
use anyhow::{Context as _, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The one file that an administrator writes.
const POLICY: &str = "version: 1
default: kernel
rules:
  - { name: web, action: allow, ports: [80], users: [www-data] }
  - { name: nobody-else, action: deny, ports: [80] }
";

const OPTIONS: &str = "/etc/default/portguard";
const LOG: &str = "/var/log/portguard/decisions.jsonl";

/// Everything is in place, and nothing runs.
pub(super) fn installed(_: &TestEnv) -> anyhow::Result<()> {
    apt_done(&["install", OLD])?;
    ensure!(property("ActiveState")? == "inactive", "it was started");
    let enabled = systemctl(&["is-enabled", UNIT])?;
    ensure!(!enabled.status.success(), "it was enabled");
    ensure!(bind_by(0)? == 0, "root's bind is refused");
    let group = fs::read_to_string("/etc/group")?;
    ensure!(group.contains("\nportguard:"), "no group: {group}");
    let log = fs::metadata("/var/log/portguard").context("the directory of the file sink")?;
    ensure!(log.uid() == 0 && log.gid() != 0 && log.mode() & 0o777 == 0o750);
    let verify = command("systemd-analyze", &["verify", "--man=no", UNIT])?;
    ensure!(verify.status.success(), "{}", printed(&verify));
    let doctor = command("portguard", &["doctor"])?;
    ensure!(doctor.status.success(), "{}", printed(&doctor));
    Ok(())
}

/// Without a policy of the administrator it reports, and decides nothing.
pub(super) fn default_policy(_: &TestEnv) -> anyhow::Result<()> {
    unit("start")?;
    ensure!(bind_by(0)? == 0, "root's bind is refused");
    let status = command("portguard", &["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    ensure!(status["enforcing"] == "audit", "{status}");
    let until = Instant::now() + DEADLINE;
    while !journal_has("PORTGUARD_PORT=80")? {
        ensure!(Instant::now() < until, "no decision in the journal");
        std::thread::sleep(Duration::from_millis(100));
    }
    unit("stop")?;
    let detached = command("portguard", &["detach"])?;
    ensure!(detached.status.success(), "{}", printed(&detached));
    Ok(())
}

fn journal_has(field: &str) -> anyhow::Result<bool> {
    let output = command("journalctl", &["-q", "-o", "cat", "-u", UNIT, field])?;
    Ok(!output.stdout.is_empty())
}

/// One file in /etc/portguard/policies and `systemctl enable --now`.
pub(super) fn one_file(env: &TestEnv) -> anyhow::Result<()> {
    write_policy(POLICY)?;
    let check = command("portguard", &["check"])?;
    ensure!(check.status.success(), "{}", printed(&check));
    let enabled = systemctl(&["enable", "--now", UNIT])?;
    ensure!(
        enabled.status.success(),
        "{}{}",
        printed(&enabled),
        journal()?
    );
    in_force(env.grants())
}

/// Enforcement outlives the daemon, and systemd starts another.
pub(super) fn kill(env: &TestEnv) -> anyhow::Result<()> {
    killed(env)
}

/// The next version takes over.
pub(super) fn upgrade(env: &TestEnv) -> anyhow::Result<()> {
    replaced(env, NEW, "an upgrade")
}

/// So does the one before.
pub(super) fn downgrade(env: &TestEnv) -> anyhow::Result<()> {
    replaced(env, OLD, "a downgrade")
}

fn replaced(env: &TestEnv, package: &str, what: &str) -> anyhow::Result<()> {
    let (daemon, before) = (main_pid()?, version()?);
    let refused = meanwhile(|| apt_done(&["install", package]).map(drop))?;
    println!("  {what}: {refused} binds, all refused");
    let now = main_pid()?;
    ensure!(now != daemon && now != 0, "pid {daemon}, then {now}");
    ensure!(version()? != before, "still {before}");
    ensure!(property("ActiveState")? == "active", "{}", journal()?);
    in_force(env.grants())
}

/// A program that does not run is not started: the daemon of the version before goes on.
pub(super) fn broken(env: &TestEnv) -> anyhow::Result<()> {
    let daemon = main_pid()?;
    let mut said = String::new();
    let refused = meanwhile(|| {
        let output = apt(&["install", BROKEN])?;
        said = printed(&output);
        ensure!(!output.status.success(), "apt-get takes it: {said}");
        Ok(())
    })?;
    println!("  a broken upgrade: {refused} binds, all refused");
    ensure!(said.contains("keeps enforcing"), "{said}");
    ensure!(main_pid()? == daemon, "the daemon was restarted");
    in_force(env.grants())?;
    // And the way out of it.
    apt_done(&["install", NEW])?;
    ensure!(main_pid()? != daemon, "the old daemon runs");
    in_force(env.grants())
}

/// logrotate's new file is one that the file sink takes.
pub(super) fn rotation(env: &TestEnv) -> anyhow::Result<()> {
    let before = fs::read_to_string(OPTIONS)?;
    let with_file =
        format!("{before}\nPORTGUARD_OPTIONS=\"--pin --sink journald --sink file:{LOG}\"\n");
    fs::write(OPTIONS, with_file)?;
    let example = fs::read_to_string("/usr/share/doc/portguard/examples/file-sink.conf")?;
    let (_, service) = example.split_once("[Service]\n").context("the example")?;
    let drop_in = DropIn::new("file-sink", service)?;
    unit("restart")?;
    wait_for_lines()?;
    let first = fs::metadata(LOG)?.ino();
    let rotated = command("logrotate", &["--force", "/etc/logrotate.d/portguard"])?;
    ensure!(rotated.status.success(), "{}", printed(&rotated));
    let next = fs::metadata(LOG)?;
    ensure!(next.ino() != first, "logrotate made no new file");
    ensure!(next.uid() == 0 && next.mode() & 0o777 == 0o640);
    wait_for_lines().with_context(|| journal().unwrap_or_default())?;
    fs::write(OPTIONS, before)?;
    drop(drop_in);
    unit("restart")?;
    in_force(env.grants())
}

/// Binds until the file has a line.
fn wait_for_lines() -> anyhow::Result<()> {
    let until = Instant::now() + DEADLINE;
    while fs::read_to_string(Path::new(LOG))
        .unwrap_or_default()
        .is_empty()
    {
        ensure!(Instant::now() < until, "no line in {LOG}");
        bind_by(0)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
