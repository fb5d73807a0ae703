//! What building and testing need: found, or installed where it is missing.

mod apt;
mod bpf_core;
mod bpf_linker;
mod cargo_tools;

pub(crate) use bpf_core::{BpfCore, DEBIAN_RUSTC};
pub(crate) use bpf_linker::linker_path;
pub(crate) use cargo_tools::{cargo_deny, cargo_fuzz};

use crate::shell;
use anyhow::Result;
use apt::Program;
use std::path::Path;

/// What booting a guest takes.
const GUESTS: &[Program] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
];

/// What the tests on this machine's own kernel take.
const NATIVE: &[Program] = &[
    ("nginx", "nginx-light"),
    ("ncat", "ncat"),
    ("ip", "iproute2"),
];

/// The programs that guests and the native tests take.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    GUESTS.iter().chain(NATIVE).map(|(program, _)| *program)
}

/// The BPF core library and the linker.
pub(crate) fn for_building() -> Result<BpfCore> {
    let core = bpf_core::find_or_install()?;
    bpf_linker::ensure(core.llvm())?;
    Ok(core)
}

/// QEMU and what packs a guest's files.
pub(crate) fn for_guests() -> Result<()> {
    apt::install_programs(GUESTS)
}

/// The programs that the native tests start.
pub(crate) fn for_native() -> Result<()> {
    let had_nginx = shell::which("nginx").is_some();
    apt::install_programs(NATIVE)?;
    if !had_nginx && Path::new("/run/systemd/system").exists() {
        // The package starts a server on port 80, which nobody asked for.
        shell::run(shell::as_root("systemctl").args(["disable", "--now", "nginx"]))?;
    }
    Ok(())
}
