//! The programs as they are shipped: optimised, without paths of the machine that built them, their debug symbols apart.

use super::paths::work;
use super::target::Target;
use crate::build::{self, DAEMON, PROGRAM};
use crate::{repo, shell};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most that a stripped program may have.
const MAX_BYTES: u64 = 10_000_000;

/// The features of the shipped programs: all that need no library of the host.
const FEATURES: &str = "otlp";

/// A program and its debug symbols.
pub(super) struct Program {
    /// Stripped; it names the file of its symbols.
    pub(super) stripped: PathBuf,
    /// The symbols, for gdb and backtraces.
    pub(super) debug: PathBuf,
}

/// What is shipped for a target.
pub(super) struct Programs {
    pub(super) command: Program,
    pub(super) daemon: Program,
}

impl Programs {
    pub(super) const fn all(&self) -> [&Program; 2] {
        [&self.command, &self.daemon]
    }
}

/// Builds the programs for a target, and takes their debug symbols apart.
pub(super) fn build(target: Target) -> Result<Programs> {
    shell::run(&mut cargo(target, PROGRAM))?;
    // Apart: together both would have the crates of either.
    shell::run(cargo(target, DAEMON).arg("--no-default-features"))?;
    let built = repo::path("target").join(target.triple()).join("shipped");
    let programs = split(target, &built)?;
    for program in programs.all() {
        let size = std::fs::metadata(&program.stripped)?.len();
        ensure!(
            size < MAX_BYTES,
            "{} has {size} bytes, more than {MAX_BYTES}",
            program.stripped.display()
        );
    }
    Ok(programs)
}

/// Takes the debug symbols of the programs in a directory apart.
pub(super) fn split(target: Target, built: &Path) -> Result<Programs> {
    let directory = work(target.name());
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    let one = |name: &str| {
        let program = Program {
            stripped: directory.join(name),
            debug: directory.join(format!("{name}.debug")),
        };
        separate(target, &built.join(name), &program)?;
        anyhow::Ok(program)
    };
    Ok(Programs {
        command: one(PROGRAM)?,
        daemon: one(DAEMON)?,
    })
}

/// The build of a program. `--locked`: what is shipped has the dependencies of Cargo.lock.
fn cargo(target: Target, program: &str) -> Command {
    let mut cargo = build::cargo(&[
        "build",
        "--locked",
        "--profile",
        "shipped",
        "-p",
        "portguard",
        "--bin",
        program,
    ]);
    cargo.args(["--features", FEATURES, "--target", target.triple()]);
    // Not RUSTFLAGS: with --target, these are for the program alone and not for build scripts.
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        target.triple().to_uppercase().replace('-', "_")
    );
    cargo.env(variable, build::without_paths().join(" "));
    if let Some(cross) = target.cross() {
        let variable = format!(
            "CARGO_TARGET_{}_LINKER",
            target.triple().to_uppercase().replace('-', "_")
        );
        cargo.env(variable, cross.linker);
    }
    cargo
}

/// Splits a program by objcopy.
fn separate(target: Target, built: &Path, program: &Program) -> Result<()> {
    let objcopy = || {
        let prefix = target.cross().map_or("", |cross| cross.binutils);
        shell::command(format!("{prefix}objcopy"))
    };
    shell::run(
        objcopy()
            .args(["--only-keep-debug", "--compress-debug-sections"])
            .args([built, &program.debug]),
    )?;
    let link = format!("--add-gnu-debuglink={}", program.debug.display());
    shell::run(
        objcopy()
            .args(["--strip-all", "--remove-section=.comment", &link])
            .args([built, &program.stripped]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_builds_with_the_lock_file_and_without_paths() {
        let line = shell::line(&cargo(Target::Aarch64, DAEMON));
        for part in [
            "--locked",
            "--profile shipped",
            "--bin portguardd",
            "--target aarch64-unknown-linux-gnu",
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=",
            "--remap-path-prefix=",
            "PORTGUARD_EBPF_OBJECT=",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
