//! After a reboot: what removing the package leaves, and what a purge leaves.

use super::dpkg::{OLD, apt_done};
use crate::harness::TestEnv;
use crate::harness::lines::DEADLINE;
use crate::systemd::guarded::{bind_by, in_force};
use crate::systemd::unit::{UNIT, command, journal, property};
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::time::Instant;

const OPTIONS: &str = "/etc/default/portguard";

/// Enforced before this, an ordinary service, was started.
pub(super) fn rebooted(env: &TestEnv) -> anyhow::Result<()> {
    ensure!(property("ActiveState")? == "active", "{}", journal()?);
    in_force(env.grants())
}

/// Removing ends enforcement; the policy stays.
pub(super) fn removed(_: &TestEnv) -> anyhow::Result<()> {
    apt_done(&["remove", "portguard"])?;
    released()?;
    ensure!(bind_by(33)? == libc::EACCES, "a grant outlives the package");
    ensure!(!Path::new("/sys/fs/bpf/portguard").exists(), "pins remain");
    ensure!(Path::new("/etc/portguard/policies/10-guest.yaml").exists());
    ensure!(Path::new(OPTIONS).exists(), "a conffile is gone");
    Ok(())
}

/// It was enabled when it was removed.
pub(super) fn installed_again(env: &TestEnv) -> anyhow::Result<()> {
    apt_done(&["install", OLD])?;
    ensure!(property("ActiveState")? == "active", "{}", journal()?);
    in_force(env.grants())
}

/// With `ON_REMOVE=keep` the pins enforce on.
pub(super) fn kept(env: &TestEnv) -> anyhow::Result<()> {
    let options = fs::read_to_string(OPTIONS)?;
    fs::write(
        OPTIONS,
        options.replace("ON_REMOVE=detach", "ON_REMOVE=keep"),
    )?;
    let said = apt_done(&["remove", "portguard"])?;
    ensure!(said.contains("keep enforcing"), "{said}");
    ensure!(!Path::new("/usr/bin/portguard").exists(), "not removed");
    in_force(env.grants())
}

/// No file, no pin, no group, no unit.
pub(super) fn purged(_: &TestEnv) -> anyhow::Result<()> {
    apt_done(&["purge", "portguard"])?;
    released()?;
    let arguments = [
        "/",
        "-path",
        "/proc",
        "-prune",
        "-o",
        "-path",
        "/packages",
        "-prune",
        "-o",
        "-path",
        "/sys/kernel",
        "-prune",
        "-o",
        "-name",
        "*portguard*",
        "-not",
        "-name",
        "portguard-itest*",
        "-print",
    ];
    let left = command("find", &arguments)?;
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    ensure!(left.is_empty(), "left behind:\n{left}");
    let group = fs::read_to_string("/etc/group")?;
    ensure!(!group.contains("portguard"), "the group remains: {group}");
    ensure!(property("LoadState")? == "not-found", "{UNIT} is known");
    Ok(())
}

/// Waits until root's bind is allowed: the kernel frees links after a grace period.
fn released() -> anyhow::Result<()> {
    let until = Instant::now() + DEADLINE;
    while bind_by(0)? != 0 {
        ensure!(Instant::now() < until, "a denial outlives the package");
    }
    Ok(())
}
