//! The tools that cargo builds: cargo-deny, which checks the dependencies against `deny.toml`, and cargo-cyclonedx, which
//! lists them.

use crate::{repo, shell};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// cargo-deny.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    find_or_build("cargo-deny", "some minutes")
}

/// mdBook, without its server.
pub(crate) fn mdbook() -> Result<PathBuf> {
    let own = repo::path("target/tools/bin/mdbook");
    if !own.is_file() {
        eprintln!("xtask: building mdbook, some minutes");
        let mut cargo = install(&["mdbook", "--locked", "--version", "0.5.4"]);
        cargo.args(["--no-default-features", "--features", "search"]);
        shell::run(&mut cargo)?;
    }
    Ok(own)
}

/// cargo-cyclonedx.
pub(crate) fn cargo_cyclonedx() -> Result<PathBuf> {
    find_or_build("cargo-cyclonedx", "two minutes")
}

/// The path of a tool: in target/tools, or installed, or else built into target/tools.
fn find_or_build(name: &str, duration: &str) -> Result<PathBuf> {
    let own = repo::path("target/tools/bin").join(name);
    if own.is_file() {
        return Ok(own);
    }
    if let Some(found) = shell::which(name) {
        return Ok(found);
    }
    eprintln!("xtask: building {name}, {duration}");
    shell::run(&mut install(&[name, "--locked"]))?;
    Ok(own)
}

/// `cargo install` into target/tools, unoptimised: the tools run for seconds, and optimising them takes minutes.
pub(super) fn install(args: &[&str]) -> Command {
    let mut cargo = shell::cargo(&["install", "--debug", "--root"]);
    cargo.arg(repo::path("target/tools")).args(args);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo
}
