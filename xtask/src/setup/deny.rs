//! cargo-deny, which judges the dependencies by `deny.toml`.

use crate::shell;
use anyhow::Result;
use std::path::PathBuf;

/// Where cargo-deny lies: an installed one, or one built into the repository's tools.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let own = shell::path("target/tools/bin/cargo-deny");
    if own.is_file() {
        return Ok(own);
    }
    if let Some(found) = shell::which("cargo-deny") {
        return Ok(found);
    }
    eprintln!("xtask: building cargo-deny, some minutes");
    let mut cargo = shell::cargo(&["install", "cargo-deny", "--locked", "--root"]);
    shell::run(cargo.arg(shell::path("target/tools")))?;
    Ok(own)
}
