//! The programs that building and testing need: found, or installed.

mod apt;
mod bpf_core;
mod bpf_linker;
mod cargo_tools;
mod nfpm;
mod promtool;

pub(crate) use bpf_core::{BpfCore, DEBIAN_RUSTC};
pub(crate) use bpf_linker::linker_path;
pub(crate) use cargo_tools::{cargo_cyclonedx, cargo_deny, mdbook};
pub(crate) use nfpm::nfpm;
pub(crate) use promtool::promtool;

use crate::shell;
use anyhow::{Result, ensure};
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

/// The programs that make packages and check them.
const PACKAGES: &[Program] = &[
    ("objcopy", "binutils"),
    ("lintian", "lintian"),
    ("rpm", "rpm"),
    ("rpmlint", "rpmlint"),
    ("zstd", "zstd"),
    ("pip3", "python3-pip"),
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

/// Installs the programs that make packages and check them.
pub(crate) fn for_packages() -> Result<()> {
    apt::install_programs(PACKAGES)
}

/// Installs packages unless this program is there; fails where they do not have it.
pub(crate) fn install_program(program: &str, packages: &[&str]) -> Result<()> {
    if shell::which(program).is_none() {
        apt::install(packages)?;
    }
    ensure!(
        shell::which(program).is_some(),
        "{} did not install {program}",
        packages.join(" ")
    );
    Ok(())
}

/// Whether the compiler has the standard library for a target.
pub(crate) fn has_std(triple: &str) -> Result<bool> {
    let mut rustc = shell::command("rustc");
    rustc.args(["--print", "target-libdir", "--target", triple]);
    Ok(Path::new(shell::query(&mut rustc)?.trim()).is_dir())
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
