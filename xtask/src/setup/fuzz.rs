//! cargo-fuzz, and the C++ compiler that builds libFuzzer.

use super::packages;
use crate::shell;
use anyhow::Result;
use std::path::PathBuf;

/// Where cargo-fuzz lies: an installed one, or one built into the repository's tools.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    packages(&[("g++", "g++")])?;
    let own = shell::path("target/tools/bin/cargo-fuzz");
    if own.is_file() {
        return Ok(own);
    }
    if let Some(found) = shell::which("cargo-fuzz") {
        return Ok(found);
    }
    eprintln!("xtask: building cargo-fuzz, about a minute");
    let mut cargo = shell::cargo(&["install", "cargo-fuzz", "--locked", "--root"]);
    shell::run(cargo.arg(shell::path("target/tools")))?;
    Ok(own)
}
