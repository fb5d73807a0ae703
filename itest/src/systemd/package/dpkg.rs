//! apt and dpkg without a network.

use crate::systemd::unit::command;
use anyhow::ensure;
use std::process::Output;

/// The packages, which xtask puts there.
pub(super) const OLD: &str = "/packages/old.deb";
pub(super) const NEW: &str = "/packages/new.deb";
/// Its program ends with 1.
pub(super) const BROKEN: &str = "/packages/broken.deb";

/// apt-get with these arguments, asking nothing.
pub(super) fn apt(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut all = vec![
        "--assume-yes",
        "--allow-downgrades",
        "-o=Dpkg::Use-Pty=0",
        "-o=Dpkg::Options::=--force-confold",
    ];
    all.extend(arguments);
    command("apt-get", &all)
}

/// The same, which must succeed; returns what was printed.
pub(super) fn apt_done(arguments: &[&str]) -> anyhow::Result<String> {
    let output = apt(arguments)?;
    let text = printed(&output);
    ensure!(output.status.success(), "apt-get {arguments:?}: {text}");
    Ok(text)
}

/// Stdout and stderr.
pub(super) fn printed(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The installed version.
pub(super) fn version() -> anyhow::Result<String> {
    let output = command("dpkg-query", &["-W", "-f=${Version}", "portguard"])?;
    Ok(String::from_utf8(output.stdout)?)
}
