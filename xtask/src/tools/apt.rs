//! Installs packages of the machine's own distribution.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::sync::OnceLock;

/// A program and the package that has it.
pub(super) type Program = (&'static str, &'static str);

/// Installs the packages of the programs that are missing.
pub(super) fn install_programs(programs: &[Program]) -> Result<()> {
    let missing = programs
        .iter()
        .filter(|(program, _)| shell::which(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        install(&missing)
    }
}

/// Installs packages; without apt, fails with the commands that would.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    if shell::which("apt-get").is_none() {
        bail!(
            "missing: {wanted}; on Debian, install with\n  sudo apt-get update\n  \
             sudo apt-get install -y --no-install-recommends {wanted}"
        );
    }
    eprintln!("xtask: installing {wanted}");
    update()?;
    let mut apt = shell::as_root("env");
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y"]);
    apt.arg("--no-install-recommends").args(packages);
    shell::run(&mut apt).with_context(|| format!("installing {wanted}"))
}

/// Whether the package lists of this machine have a package.
pub(crate) fn in_archive(package: &str) -> bool {
    let mut show = shell::command("apt-cache");
    show.args(["show", "--no-all-versions", package]);
    shell::which("apt-cache").is_some() && shell::query(&mut show).is_ok()
}

/// Updates the package lists, once per run.
fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    // One unreachable source of several need not matter: the install that follows shows it.
    if let Err(error) = shell::run(shell::as_root("apt-get").arg("update")) {
        eprintln!("xtask: {error:#}; using the present package lists");
    }
    DONE.get_or_init(|| ());
    Ok(())
}
