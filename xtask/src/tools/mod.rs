//! The programs that building and testing need: found, or installed.

mod apt;
mod bpf_core;
mod bpf_linker;
mod cargo_tools;

pub(crate) use bpf_core::{BpfCore, DEBIAN_RUSTC};
pub(crate) use bpf_linker::linker_path;
pub(crate) use cargo_tools::cargo_deny;

use crate::shell;
use anyhow::Result;
use apt::Program;
use std::path::Path;

/// The programs that prepare and boot guests.
const GUESTS: &[Program] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
];

/// The programs that the native tests start.
const NATIVE: &[Program] = &[
    ("nginx", "nginx-light"),
    ("ncat", "ncat"),
    ("ip", "iproute2"),
];

/// The programs of guests and of the native tests.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    GUESTS.iter().chain(NATIVE).map(|(program, _)| *program)
}

/// Installs the BPF core library and the linker.
pub(crate) fn for_building() -> Result<BpfCore> {
    let core = bpf_core::find_or_install()?;
    bpf_linker::ensure(core.llvm())?;
    Ok(core)
}

/// Installs QEMU and the programs that pack the files of guests.
pub(crate) fn for_guests() -> Result<()> {
    apt::install_programs(GUESTS)
}

/// Installs the C++ compiler that builds libFuzzer.
pub(crate) fn for_fuzzing() -> Result<()> {
    apt::install_programs(&[("g++", "g++")])
}

/// Installs the programs that the native tests start.
pub(crate) fn for_native() -> Result<()> {
    let had_nginx = shell::which("nginx").is_some();
    apt::install_programs(NATIVE)?;
    if !had_nginx && Path::new("/run/systemd/system").exists() {
        // The package starts a server on port 80.
        shell::run(shell::as_root("systemctl").args(["disable", "--now", "nginx"]))?;
    }
    Ok(())
}
