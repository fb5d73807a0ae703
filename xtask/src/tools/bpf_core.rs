//! The core library for BPF: from the sources of a nightly toolchain, or precompiled by Debian.

use super::{apt, bpf_linker};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::Path;

/// Debian's compiler, the only one that finds Debian's core library.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "rust-web-llvm", "libstd-rust-web-dev-bpf"];

/// Where the core library comes from, and the major version of its compiler's LLVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BpfCore {
    /// Built from the sources of the rustup toolchain `nightly`.
    Nightly { llvm: u32 },
    /// Precompiled by Debian.
    Debian { llvm: u32 },
}

impl BpfCore {
    /// The LLVM whose bitcode the linker must read.
    pub(crate) fn llvm(self) -> u32 {
        match self {
            Self::Nightly { llvm } | Self::Debian { llvm } => llvm,
        }
    }
}

impl fmt::Display for BpfCore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly { llvm } => {
                write!(formatter, "rustup's nightly with rust-src (LLVM {llvm})")
            }
            Self::Debian { llvm } => {
                write!(formatter, "Debian's, for {DEBIAN_RUSTC} (LLVM {llvm})")
            }
        }
    }
}

/// The core library on this machine; where there is none, installs Debian's.
pub(crate) fn find_or_install() -> Result<BpfCore> {
    if let Some(core) = nightly().or_else(debian) {
        return Ok(core);
    }
    eprintln!("xtask: no BPF core library found: neither a nightly with rust-src nor Debian's");
    apt::install(DEBIAN_PACKAGES).context(
        "installing the BPF core library; alternatively run `rustup toolchain install nightly \
         --component rust-src`",
    )?;
    match debian() {
        Some(core) => Ok(core),
        None => {
            bail!("{DEBIAN_RUSTC} has no {DEBIAN_CORE} built with an LLVM that bpf-linker supports")
        }
    }
}

/// The nightly toolchain, if it has its sources and a linker for its LLVM can be built.
fn nightly() -> Option<BpfCore> {
    shell::which("rustup")?;
    let toolchains = query("rustup", &["toolchain", "list"])?;
    if !toolchains.lines().any(|line| line.starts_with("nightly-")) {
        return None;
    }
    let sysroot = query("rustup", &["run", "nightly", "rustc", "--print", "sysroot"])?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if !sources.is_dir() {
        return None;
    }
    let llvm = llvm_major(&query("rustup", &["run", "nightly", "rustc", "-vV"])?)?;
    bpf_linker::possible(llvm).then_some(BpfCore::Nightly { llvm })
}

/// Debian's core library, if it is installed.
fn debian() -> Option<BpfCore> {
    let mut files = std::fs::read_dir(DEBIAN_CORE).ok()?.flatten();
    files.find(|file| file.file_name().to_string_lossy().starts_with("libcore"))?;
    let llvm = llvm_major(&query(DEBIAN_RUSTC, &["-vV"])?)?;
    bpf_linker::possible(llvm).then_some(BpfCore::Debian { llvm })
}

/// The stdout of a program, if it succeeds.
fn query(program: &str, args: &[&str]) -> Option<String> {
    let mut command = shell::command(program);
    shell::query(command.args(args)).ok()
}

/// The major version in `LLVM version: 22.1.8` of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn llvm_major_is_read_from_the_version() {
        let version = "rustc 1.96.0 (ac68faa20)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }
}
