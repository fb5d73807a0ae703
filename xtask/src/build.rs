//! The verb `build`: the eBPF objects, then the programs that embed one of them.

use crate::tools::{self, BpfCore, DEBIAN_RUSTC};
use crate::{repo, shell};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The eBPF programs as cargo names them; each becomes target/ebpf/NAME.o.
const OBJECTS: &[&str] = &["portguard", "others", "decide_test"];

/// Where cargo puts them.
const BUILT: &str = "target/ebpf-build/bpfel-unknown-none/release";

/// The object that portguard embeds, and the variable that names it to the build script of portguard.
const OBJECT: &str = "target/ebpf/portguard.o";
const OBJECT_VARIABLE: &str = "PORTGUARD_EBPF_OBJECT";

/// A cargo profile of Cargo.toml, and so a set of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Profile {
    /// What is shipped and measured.
    Release,
    /// What `cargo xtask test` runs: built in less time.
    Suite,
}

impl Profile {
    /// Its name in Cargo.toml.
    const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Suite => "suite",
        }
    }

    /// The argument of cargo that selects it.
    pub(crate) fn argument(self) -> String {
        format!("--profile={}", self.name())
    }

    /// A program of this repository.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        repo::path("target").join(self.name()).join(name)
    }
}

/// The command.
pub(crate) const PROGRAM: &str = "portguard";

/// The daemon, which the command becomes for `run`.
pub(crate) const DAEMON: &str = "portguardd";

/// The program that has the tests of kernels.
pub(crate) const TESTS: &str = "portguard-itest";

/// The verb `build`.
pub(crate) fn run() -> Result<ExitCode> {
    everything(Profile::Release)?;
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing and builds everything that runs. A portguard without the eBPF object is an error.
pub(crate) fn everything(profile: Profile) -> Result<()> {
    objects()?;
    let packages = ["-p", "portguard", "-p", "portguard-itest"];
    shell::run(cargo(&["build", &profile.argument()]).args(packages))?;
    ensure_all_embed(profile)
}

/// The same for the suite, with all features and with the unit and property tests, in one build: apart they would be
/// three, since the features of the crates that all use differ.
pub(crate) fn with_tests() -> Result<()> {
    objects()?;
    shell::run(tests().arg("--no-run"))?;
    ensure_all_embed(Profile::Suite)
}

/// The unit and property tests of all crates but two, which are tested apart: the policy crate and xtask.
pub(crate) fn tests() -> Command {
    let profile = Profile::Suite.argument();
    let mut cargo = cargo(&["test", &profile, "--all-features", "--workspace"]);
    cargo.arg("--no-fail-fast");
    // The eBPF programs have none, and the fuzz targets are run by libFuzzer.
    let apart = [
        "portguard-ebpf",
        "portguard-fuzz",
        "portguard-policy",
        "xtask",
    ];
    cargo.args(apart.iter().flat_map(|package| ["--exclude", package]));
    cargo
}

/// Builds the eBPF objects.
pub(crate) fn objects() -> Result<()> {
    let core = tools::for_building()?;
    eprintln!("xtask: BPF core library: {core}");
    shell::run(&mut ebpf(core))?;
    let objects = repo::path("target/ebpf");
    std::fs::create_dir_all(&objects).context("creating target/ebpf")?;
    for name in OBJECTS {
        let built = repo::path(BUILT).join(name);
        copy_if_changed(&built, &objects.join(format!("{name}.o")))?;
    }
    Ok(())
}

/// `cargo` for the crates that depend on portguard. The eBPF object is named, so that its absence is an error, and
/// named alike in every step, so that no step builds portguard again.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut cargo = shell::cargo(args);
    cargo.env(OBJECT_VARIABLE, repo::path(OBJECT));
    cargo
}

/// `cargo` for a crate that must not need the eBPF object: there is none where the variable points.
pub(crate) fn cargo_without_object(args: &[&str]) -> Command {
    let mut cargo = shell::cargo(args);
    cargo.env(OBJECT_VARIABLE, repo::path("target/no-ebpf-object"));
    cargo
}

/// The build of the eBPF programs.
fn ebpf(core: BpfCore) -> Command {
    let mut cargo = shell::command("cargo");
    match core {
        BpfCore::Nightly { .. } => {
            cargo.env_remove("RUSTUP_TOOLCHAIN").args([
                "+nightly",
                "build",
                "-Z",
                "build-std=core",
            ]);
        }
        BpfCore::Debian { .. } => {
            // The compiled core library belongs to this compiler, which calls itself stable.
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
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&tools::linker_path()));
    for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    cargo
}

/// The compiler flags, in the form that allows a path with spaces.
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
    let remapped = without_paths();
    let flags = flags.into_iter().chain(remapped.iter().map(String::as_str));
    flags.collect::<Vec<_>>().join("\x1f")
}

/// Compiler flags that keep the paths of this machine out of what is built: it would differ by where it was built.
pub(crate) fn without_paths() -> Vec<String> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(PathBuf::from(home).join(".cargo"))
        });
    let remap = |path: &Path, name: &str| format!("--remap-path-prefix={}={name}", path.display());
    std::iter::once(remap(repo::root(), "."))
        .chain(cargo_home.map(|path| remap(&path, "cargo")))
        .collect()
}

/// Copies a file unless the target has the same content, so that nothing that depends on it is built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = read(from)?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    std::fs::write(to, new).with_context(|| format!("writing {}", to.display()))?;
    eprintln!("xtask: {} changed", to.display());
    Ok(())
}

/// Fails unless the daemon contains the object, and the command, whose `doctor` loads it.
fn ensure_all_embed(profile: Profile) -> Result<()> {
    let object = repo::path(OBJECT);
    let programs = [PROGRAM, DAEMON].map(|name| profile.program(name));
    programs
        .iter()
        .try_for_each(|program| ensure_embedded(program, &object))
}

/// Fails unless the program contains the object, whole.
fn ensure_embedded(program: &Path, object: &Path) -> Result<()> {
    let (code, embedded) = (read(program)?, read(object)?);
    ensure!(
        contains(&code, &embedded),
        "{} does not contain the eBPF object {}: it would enforce nothing; remove that program and build again",
        program.display(),
        object.display()
    );
    Ok(())
}

/// Whether `bytes` contain `part`, which is not empty.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else {
        return false;
    };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(part) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_flags_keep_a_path_with_a_space_whole() {
        let flags = rust_flags(Path::new("/a b/bpf-linker"));
        assert_eq!(flags.split('\x1f').nth(1), Some("linker=/a b/bpf-linker"));
    }

    #[test]
    fn rust_flags_keep_paths_of_this_machine_out() {
        let flags = rust_flags(Path::new("bpf-linker"));
        let root = format!("--remap-path-prefix={}=.", repo::root().display());
        assert!(flags.split('\x1f').any(|flag| flag == root), "{flags}");
    }

    #[test]
    fn cargo_names_the_object() {
        let line = shell::line(&cargo(&["test"]));
        assert!(line.contains("PORTGUARD_EBPF_OBJECT="), "{line}");
        assert!(
            line.contains("target/ebpf/portguard.o cargo test"),
            "{line}"
        );
    }

    #[test]
    fn program_without_the_object_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let (program, object) = (directory.path().join("program"), directory.path().join("o"));
        let check = |code: &[u8], embedded: &[u8]| {
            std::fs::write(&program, code).expect("the program");
            std::fs::write(&object, embedded).expect("the object");
            ensure_embedded(&program, &object).map_err(|error| error.to_string())
        };
        assert_eq!(check(b"\x7fELF 1 \x7fELF 2 end", b"\x7fELF 2"), Ok(()));
        for (code, embedded) in [(&b"\x7fELF 1"[..], &b"\x7fELF 2"[..]), (b"\x7fELF", b"")] {
            let error = check(code, embedded).expect_err("no object in it");
            assert!(
                error.contains("does not contain the eBPF object"),
                "{error}"
            );
        }
        std::fs::remove_file(&object).expect("removed");
        let error = ensure_embedded(&program, &object).expect_err("no object");
        assert!(error.to_string().starts_with("reading "), "{error}");
    }
}
