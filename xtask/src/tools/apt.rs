//! Packages of the machine's own distribution.

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

/// Installs packages; where there is no apt, fails with what to install.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    if shell::which("apt-get").is_none() {
        bail!(
            "missing here: {wanted}. On Debian this would be:\n  sudo apt-get update\n  \
             sudo apt-get install -y --no-install-recommends {wanted}"
        );
    }
    eprintln!("xtask: installing {wanted}");
    update()?;
    let mut apt = shell::as_root("env");
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y"]);
    apt.arg("--no-install-recommends").args(packages);
    shell::run(&mut apt).with_context(|| format!("missing here: {wanted}"))
}

/// Whether the distribution has a package, as far as the lists on this machine know.
pub(crate) fn in_archive(package: &str) -> bool {
    let mut show = shell::command("apt-cache");
    show.args(["show", "--no-all-versions", package]);
    shell::which("apt-cache").is_some() && shell::query(&mut show).is_ok()
}

/// Reads the package lists anew, once a run.
fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    // One unreachable source of several is no reason to stop: the install that follows will tell.
    if let Err(error) = shell::run(shell::as_root("apt-get").arg("update")) {
        eprintln!("xtask: {error:#}; going on with the lists there are");
    }
    DONE.get_or_init(|| ());
    Ok(())
}
