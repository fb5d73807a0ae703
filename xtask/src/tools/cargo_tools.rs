//! The tools that cargo builds: cargo-deny, which judges the dependencies by `deny.toml`, and cargo-fuzz, with
//! the C++ compiler that builds libFuzzer.

use super::apt;
use crate::{repo, shell};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Where cargo-deny lies.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    tool("cargo-deny", "some minutes")
}

/// Where cargo-fuzz lies.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    apt::install_programs(&[("g++", "g++")])?;
    tool("cargo-fuzz", "about a minute")
}

/// Where a tool lies: an installed one, or one built into the repository's tools.
fn tool(name: &str, duration: &str) -> Result<PathBuf> {
    let own = repo::path("target/tools/bin").join(name);
    if own.is_file() {
        return Ok(own);
    }
    if let Some(found) = shell::which(name) {
        return Ok(found);
    }
    eprintln!("xtask: building {name}, {duration}");
    let mut cargo = install(&[name, "--locked"]);
    shell::run(&mut cargo)?;
    Ok(own)
}

/// `cargo install` into the repository's tools, unoptimised: they are used for seconds, and built for minutes.
pub(super) fn install(args: &[&str]) -> Command {
    let mut cargo = shell::cargo(&["install", "--debug", "--root"]);
    cargo.arg(repo::path("target/tools")).args(args);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo
}
