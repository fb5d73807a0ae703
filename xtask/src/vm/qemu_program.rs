//! Finds QEMU: the installed one, or the one of Debian's backports where that is too old.

use super::cache;
use super::debian_archive::Archive;
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const PROGRAM: &str = "qemu-system-x86_64";

/// The oldest version that emulates two CPUs correctly. Before it, code is translated without a lock on its page
/// (`accel/tcg/translate-all.c`), and a CPU can keep an instruction that the other has overwritten: a kernel that
/// attaches LSM programs during a bind crashes on a breakpoint that was already removed (`Oops: int3`), as seen
/// with 7.2 on a busy machine. Older versions are also slower, by a quarter to two fifths.
const OLDEST: (u32, u32) = (8, 1);

/// The packages of QEMU itself; it uses the libraries of this machine.
const PACKAGES: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

/// A QEMU program.
#[derive(Clone)]
pub(super) struct QemuProgram {
    program: PathBuf,
    /// The tree of unpacked packages with its other files, unless they are in their usual place.
    tree: Option<PathBuf>,
}

impl QemuProgram {
    /// A command with no arguments but the directories of its files.
    pub(super) fn command(&self) -> Command {
        let mut qemu = shell::command(&self.program);
        if let Some(tree) = &self.tree {
            let modules = "usr/lib/x86_64-linux-gnu/qemu";
            qemu.env("QEMU_MODULE_DIR", tree.join(modules));
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                qemu.arg("-L").arg(tree.join(firmware));
            }
        }
        qemu
    }

    fn installed() -> Self {
        Self {
            program: shell::which(PROGRAM).unwrap_or_else(|| PROGRAM.into()),
            tree: None,
        }
    }

    fn in_tree(tree: &Path) -> Self {
        Self {
            program: tree.join("usr/bin").join(PROGRAM),
            tree: Some(tree.to_path_buf()),
        }
    }

    /// Its major and minor version.
    fn version(&self) -> Result<(u32, u32)> {
        let output = shell::query(self.command().arg("--version"))?;
        version(&output).with_context(|| format!("no version in {output:?}"))
    }
}

/// A QEMU that is new enough, fetched if there is none.
pub(super) fn find() -> Result<QemuProgram> {
    static FOUND: Mutex<Option<QemuProgram>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = &*found {
        return Ok(program.clone());
    }
    let program = find_or_fetch()?;
    *found = Some(program.clone());
    Ok(program)
}

fn find_or_fetch() -> Result<QemuProgram> {
    let installed = QemuProgram::installed();
    let version = installed.version()?;
    if version >= OLDEST {
        return Ok(installed);
    }
    let tree = cache::directory().join("qemu");
    if !tree.is_dir() {
        eprintln!(
            "xtask: QEMU {}.{} is older than {}.{}: fetching the one of Debian's backports",
            version.0, version.1, OLDEST.0, OLDEST.1
        );
        fetch(&tree).context("install QEMU 8.1 or newer")?;
    }
    let fetched = QemuProgram::in_tree(&tree);
    let version = fetched.version()?;
    if version < OLDEST {
        bail!(
            "QEMU in {} is version {}.{}; install {}.{} or newer",
            tree.display(),
            version.0,
            version.1,
            OLDEST.0,
            OLDEST.1
        );
    }
    Ok(fetched)
}

/// Fetches the packages into the cache, all of them or none. The installed QEMU has brought the libraries.
fn fetch(tree: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let suite = backports(&release).context("/etc/os-release has no VERSION_CODENAME")?;
    let work = cache::directory().join("fetch/qemu");
    let _ = fs::remove_dir_all(&work);
    let unpacked = work.join("tree");
    let packages = PACKAGES.map(str::to_owned);
    Archive::open(&work, &suite)?.unpack(&packages, &unpacked)?;
    fs::rename(&unpacked, tree).with_context(|| format!("making {}", tree.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))
}

/// The backports suite of a Debian release.
fn backports(os_release: &str) -> Option<String> {
    let codename = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(format!("{}-backports", codename.trim_matches('"')))
}

/// The numbers in `QEMU emulator version 7.2.22 (Debian ...)`.
fn version(output: &str) -> Option<(u32, u32)> {
    let (_, version) = output.split_once("version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_the_first_line() {
        let output =
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003\n";
        assert_eq!(version(output), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(version("qemu"), None);
        assert!((7, 2) < OLDEST && (10, 0) > OLDEST);
    }

    #[test]
    fn backports_suite_follows_the_release() {
        let release = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(backports(release).as_deref(), Some("bookworm-backports"));
        assert_eq!(backports("ID=arch\n"), None);
    }

    #[test]
    fn command_names_the_files_of_a_fetched_qemu() {
        let fetched = QemuProgram::in_tree(Path::new("/tree"));
        let line = shell::line(&fetched.command());
        assert!(line.contains("QEMU_MODULE_DIR=/tree/usr/lib"));
        assert!(line.contains("/tree/usr/bin/qemu-system-x86_64 -L /tree/usr/share/qemu"));
        assert!(!shell::line(&QemuProgram::installed().command()).contains("-L"));
    }
}
