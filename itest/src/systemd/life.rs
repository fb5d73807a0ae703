//! The daemon under systemd: started, reloaded, killed, upgraded, hung, stopped.

use super::guarded::{bind_by, in_force, killed, meanwhile};
use super::unit::{
    DropIn, UNIT, journal, main_pid, property, signal, systemctl, unit, wait_for_another,
    write_policy,
};
use crate::harness::TestEnv;
use crate::harness::instance::{daemon_program, program};
use crate::harness::lines::DEADLINE;
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Instant;

/// The policy that the guest boots with.
const BOOTED: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [www-data] }
  - { name: nobody-else, action: deny, ports: [80] }
";

/// Only root may bind port 80.
const ANOTHER: &str = "version: 1
rules:
  - { name: root, action: allow, ports: [80], users: [root] }
  - { name: nobody-else, action: deny, ports: [80] }
";

/// The unit becomes active only when binds are decided.
pub(super) fn active_once_ready(env: &TestEnv) -> anyhow::Result<()> {
    unit("stop")?;
    detach()?;
    released()?;
    let started = systemctl(&["start", "--no-block", UNIT])?;
    ensure!(started.status.success(), "systemctl start --no-block");
    let until = Instant::now() + DEADLINE;
    let mut polls_before = 0;
    while property("ActiveState")? != "active" {
        polls_before += 1;
        ensure!(Instant::now() < until, "never active\n{}", journal()?);
    }
    let first = bind_by(0)?;
    ensure!(polls_before > 0, "active before it was ready");
    ensure!(first == libc::EACCES, "active, and root's bind: {first}");
    in_force(env.grants())?;
    ensure!(!property("StatusText")?.is_empty(), "STATUS= is empty");
    Ok(())
}

/// A reload takes effect before systemctl returns; with a broken policy it fails and changes nothing.
pub(super) fn reload(env: &TestEnv) -> anyhow::Result<()> {
    unit("start")?;
    let daemon = main_pid()?;
    let restored = Restored;
    write_policy(ANOTHER)?;
    unit("reload")?;
    let (root, web) = (bind_by(0)?, bind_by(33)?);
    ensure!(
        (root, web) == (0, libc::EACCES),
        "after a reload: root {root}, www-data {web}"
    );
    write_policy("version: 1\nrulez: []\n")?;
    let broken = systemctl(&["reload", UNIT])?;
    ensure!(!broken.status.success(), "a broken policy is reloaded");
    ensure!(bind_by(0)? == 0, "a broken policy changed what is in force");
    ensure!(property("ActiveState")? == "active", "not active any more");
    let text = journal()?;
    ensure!(
        text.contains("rulez"),
        "the journal does not name the error:\n{text}"
    );
    drop(restored);
    unit("reload")?;
    in_force(env.grants())?;
    ensure!(main_pid()? == daemon, "a reload replaced the daemon");
    Ok(())
}

/// Restores the policy that the guest booted with.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        if let Err(error) = write_policy(BOOTED) {
            eprintln!("{error:#}");
        }
    }
}

/// Enforcement outlives a killed daemon, and systemd starts another.
pub(super) fn kill(env: &TestEnv) -> anyhow::Result<()> {
    unit("start")?;
    let restarts: u32 = property("NRestarts")?.parse()?;
    killed(env)?;
    let now: u32 = property("NRestarts")?.parse()?;
    ensure!(now > restarts, "NRestarts is {now} after {restarts}");
    Ok(())
}

/// The binary is replaced and the unit restarted.
pub(super) fn upgrade(env: &TestEnv) -> anyhow::Result<()> {
    unit("start")?;
    let daemon = main_pid()?;
    let path = fs::canonicalize(daemon_program())?;
    let next = path.with_extension("new");
    fs::copy(&path, &next)?;
    fs::rename(&next, &path)?;
    let refused = meanwhile(|| unit("restart"))?;
    println!("  an upgrade: {refused} binds, all refused");
    let now = main_pid()?;
    ensure!(now != daemon, "the same daemon after a restart");
    let runs = fs::metadata(format!("/proc/{now}/exe"))?.ino();
    let file = fs::metadata(&path)?.ino();
    ensure!(runs == file, "the old binary runs");
    in_force(env.grants())
}

/// systemd replaces a hung daemon; enforcement continues.
pub(super) fn watchdog(env: &TestEnv) -> anyhow::Result<()> {
    let short = DropIn::new("watchdog", "WatchdogSec=4")?;
    unit("restart")?;
    let daemon = main_pid()?;
    let refused = meanwhile(|| {
        signal(daemon, Signal::STOP)?;
        wait_for_another(daemon)
    })?;
    println!("  a hung daemon, ended by the watchdog: {refused} binds, all refused");
    let text = journal()?;
    ensure!(
        text.contains("atchdog"),
        "the journal does not name the watchdog:\n{text}"
    );
    // The next daemon has the shipped timeout again.
    drop(short);
    in_force(env.grants())
}

/// `systemctl stop` ends the daemon, `portguard detach` ends enforcement.
pub(super) fn stop_and_detach(env: &TestEnv) -> anyhow::Result<()> {
    unit("start")?;
    let refused = meanwhile(|| unit("stop"))?;
    println!("  a stop: {refused} binds, all refused");
    ensure!(property("ActiveState")? == "inactive", "it is not stopped");
    ensure!(property("Result")? == "success", "{}", journal()?);
    in_force(env.grants())?;
    detach()?;
    released()?;
    ensure!(bind_by(33)? == libc::EACCES, "a grant outlives detach");
    unit("start")?;
    in_force(env.grants())
}

/// Waits until root's bind is allowed: the kernel frees links after a grace period.
fn released() -> anyhow::Result<()> {
    let until = Instant::now() + DEADLINE;
    while bind_by(0)? != 0 {
        ensure!(Instant::now() < until, "a denial outlives detach");
    }
    Ok(())
}

pub(super) fn detach() -> anyhow::Result<()> {
    let output = Command::new(program())
        .arg("detach")
        .output()
        .context("portguard detach")?;
    ensure!(
        output.status.success(),
        "portguard detach: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
