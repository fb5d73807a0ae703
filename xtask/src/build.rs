//! The verb `build`: the eBPF objects first, which the programs embed.

use crate::setup::{self, Core, DEBIAN_RUSTC};
use crate::shell;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, ExitCode};

/// The eBPF programs as cargo names them; each becomes target/ebpf/NAME.o.
const OBJECTS: &[&str] = &["portguard", "others", "decide_test"];

/// Where cargo puts them.
const BUILT: &str = "target/ebpf-build/bpfel-unknown-none/release";

/// The verb `build`.
pub(crate) fn run() -> Result<ExitCode> {
    everything()?;
    Ok(ExitCode::SUCCESS)
}

/// Sets up what is missing and builds everything that runs.
pub(crate) fn everything() -> Result<()> {
    let core = setup::for_building()?;
    eprintln!("xtask: BPF core library: {core}");
    shell::run(&mut ebpf(core))?;
    let objects = shell::path("target/ebpf");
    std::fs::create_dir_all(&objects).context("making target/ebpf")?;
    for name in OBJECTS {
        let built = shell::path(BUILT).join(name);
        copy_if_changed(&built, &objects.join(format!("{name}.o")))?;
    }
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "-p",
        "portguard",
        "-p",
        "portguard-itest",
    ]))
}

/// The build of the eBPF programs.
fn ebpf(core: Core) -> Command {
    let mut cargo = shell::command("cargo");
    match core {
        Core::Nightly { .. } => {
            cargo.env_remove("RUSTUP_TOOLCHAIN").args([
                "+nightly",
                "build",
                "-Z",
                "build-std=core",
            ]);
        }
        Core::Debian { .. } => {
            // The compiled core library is of this compiler, which calls itself stable.
            cargo
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("build");
        }
    }
    cargo.args([
        "--release",
        "--target",
        "bpfel-unknown-none",
        "-p",
        "portguard-ebpf",
    ]);
    cargo.args(["--target-dir", "target/ebpf-build"]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&setup::linker_path()));
    for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    cargo
}

/// The compiler's flags, in the form that lets a path have spaces.
fn rust_flags(linker: &Path) -> String {
    let linker = format!("linker={}", linker.display());
    let architecture = format!("bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    let flags = [
        "-C",
        &linker,
        "-C",
        "debuginfo=2",
        "-C",
        "link-arg=--btf",
        "--cfg",
        &architecture,
    ];
    flags.join("\x1f")
}

/// Copies a file, unless the same bytes are there: what depends on it is then left as it is.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    std::fs::write(to, new).with_context(|| format!("writing {}", to.display()))?;
    eprintln!("xtask: {} is new", to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::rust_flags;
    use std::path::Path;

    #[test]
    fn a_path_with_a_space_stays_one_flag() {
        let flags = rust_flags(Path::new("/a b/bpf-linker"));
        assert_eq!(flags.split('\x1f').nth(1), Some("linker=/a b/bpf-linker"));
    }
}
