//! bpf-linker, built with the LLVM of the compiler whose bitcode it reads.

use super::{apt, cargo_tools};
use crate::{repo, shell};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

const VERSION: &str = "0.13.0";

/// The LLVM versions that it supports.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// Where it is installed.
pub(crate) fn linker_path() -> PathBuf {
    repo::path("target/tools/bin/bpf-linker")
}

/// The file that records for which LLVM the linker was built.
fn stamp_path() -> PathBuf {
    repo::path("target/tools/bpf-linker.stamp")
}

fn stamp(llvm: u32) -> String {
    format!("bpf-linker {VERSION} llvm {llvm}\n")
}

fn installed(llvm: u32) -> bool {
    let stamped = std::fs::read_to_string(stamp_path()).is_ok_and(|found| found == stamp(llvm));
    stamped && linker_path().is_file()
}

/// Where Debian's packages install an LLVM.
fn prefix(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
}

fn has_library(llvm: u32) -> bool {
    prefix(llvm).join("include/llvm-c").is_dir() && prefix(llvm).join("lib/libLLVM.so").exists()
}

/// Whether a linker for this LLVM is installed or can be built.
pub(super) fn possible(llvm: u32) -> bool {
    let package = format!("llvm-{llvm}-dev");
    installed(llvm) || (LLVM.contains(&llvm) && (has_library(llvm) || apt::in_archive(&package)))
}

/// Builds the linker if it is missing or was built for another LLVM.
pub(super) fn ensure(llvm: u32) -> Result<()> {
    if installed(llvm) {
        return Ok(());
    }
    ensure!(
        LLVM.contains(&llvm),
        "bpf-linker {VERSION} supports LLVM {} to {}, not {llvm}",
        LLVM.start(),
        LLVM.end()
    );
    eprintln!("xtask: building bpf-linker {VERSION} for LLVM {llvm}, about a minute");
    if !has_library(llvm) {
        apt::install(&[&format!("llvm-{llvm}-dev")])?;
    }
    let feature = format!("llvm-{llvm}");
    let mut cargo = cargo_tools::install(&["bpf-linker", "--version", VERSION, "--force"]);
    cargo.args(["--no-default-features", "--features", &feature]);
    cargo.env("LLVM_PREFIX", prefix(llvm));
    shell::run(&mut cargo)?;
    let path = stamp_path();
    std::fs::write(&path, stamp(llvm)).with_context(|| format!("writing {}", path.display()))
}
