//! What building and testing need: found, or installed where it is missing.

mod apt;
mod core;
mod linker;
mod tool;

pub(crate) use core::{Core, DEBIAN_RUSTC};
pub(crate) use linker::linker_path;
pub(crate) use tool::{cargo_deny, cargo_fuzz};

use crate::shell;
use crate::vm::{self, kernel};
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;

/// A program and the package that has it.
type Need = (&'static str, &'static str);

/// What booting a guest takes.
const GUESTS: &[Need] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
];

/// What the tests on this machine's own kernel take.
const NATIVE: &[Need] = &[
    ("nginx", "nginx-light"),
    ("ncat", "ncat"),
    ("ip", "iproute2"),
];

/// The verb `setup`: all that any other verb needs, said line by line.
pub(crate) fn everything() -> Result<ExitCode> {
    let core = for_building()?;
    println!("BPF core library: {core}");
    println!("bpf-linker: {}", linker_path().display());
    for_guests()?;
    for_native()?;
    for (program, _) in GUESTS.iter().chain(NATIVE) {
        let found = shell::which(program).unwrap_or_default();
        println!("{program}: {}", found.display());
    }
    vm::alone()?;
    for series in kernel::all() {
        println!(
            "kernel {series}: {}",
            kernel::fetch(series)?.image.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The BPF core library and the linker.
pub(crate) fn for_building() -> Result<Core> {
    let core = core::find_or_install()?;
    linker::ensure(core.llvm())?;
    Ok(core)
}

/// QEMU and what packs a guest's files.
pub(crate) fn for_guests() -> Result<()> {
    packages(GUESTS)
}

/// The programs that the native tests start.
pub(crate) fn for_native() -> Result<()> {
    let had_nginx = shell::which("nginx").is_some();
    packages(NATIVE)?;
    if !had_nginx && Path::new("/run/systemd/system").exists() {
        // The package starts a server on port 80, which nobody asked for.
        shell::run(shell::as_root("systemctl").args(["disable", "--now", "nginx"]))?;
    }
    Ok(())
}

/// Installs the packages of the programs that are missing.
fn packages(needs: &[Need]) -> Result<()> {
    let missing = needs
        .iter()
        .filter(|(program, _)| shell::which(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        apt::install(&missing)
    }
}
