//! QEMU: the machine's own, or where that is too old the one of Debian's backports, beside it.

use super::cache;
use super::debian_archive::Archive;
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const PROGRAM: &str = "qemu-system-x86_64";

/// The oldest that runs two CPUs right. One before it translates code without a lock on its page
/// (`accel/tcg/translate-all.c`), and a CPU can keep an instruction that the other has overwritten: a kernel that
/// attaches LSM programs while somebody binds dies of a breakpoint that is there no more (`Oops: int3`). Seen
/// with 7.2 on a busy machine. It is also slower, by a quarter to two fifths.
const OLDEST: (u32, u32) = (8, 1);

/// What of Debian's packages the machine's own ones do not have in the same version.
const PACKAGES: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

/// A QEMU, and where its own files are if that is not where it looks for them.
#[derive(Clone)]
pub(super) struct Emulator {
    program: PathBuf,
    /// The tree that Debian's packages were unpacked into.
    tree: Option<PathBuf>,
}

impl Emulator {
    /// It, with no arguments but where its files are.
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

    fn of_machine() -> Self {
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

    /// The major and the minor version.
    fn version(&self) -> Result<(u32, u32)> {
        let answer = shell::query(self.command().arg("--version"))?;
        version(&answer).with_context(|| format!("no version in {answer:?}"))
    }
}

/// One that is new enough, fetched where there is none.
pub(super) fn find() -> Result<Emulator> {
    static FOUND: Mutex<Option<Emulator>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(emulator) = &*found {
        return Ok(emulator.clone());
    }
    let emulator = look()?;
    *found = Some(emulator.clone());
    Ok(emulator)
}

fn look() -> Result<Emulator> {
    let own = Emulator::of_machine();
    let of_machine = own.version()?;
    if of_machine >= OLDEST {
        return Ok(own);
    }
    let tree = cache::directory().join("qemu");
    if !tree.is_dir() {
        eprintln!(
            "xtask: QEMU {}.{} is older than {}.{}: fetching that of Debian's backports",
            of_machine.0, of_machine.1, OLDEST.0, OLDEST.1
        );
        fetch(&tree).context("install QEMU 8.1 or newer")?;
    }
    let fetched = Emulator::in_tree(&tree);
    let version = fetched.version()?;
    if version < OLDEST {
        bail!(
            "the QEMU in {} is {}.{}; install QEMU {}.{} or newer",
            tree.display(),
            version.0,
            version.1,
            OLDEST.0,
            OLDEST.1
        );
    }
    Ok(fetched)
}

/// Fetches the packages into their place in the cache, whole or not at all. The libraries are the machine's: its
/// own QEMU needs the same.
fn fetch(tree: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let suite = backports(&release).context("/etc/os-release names no release")?;
    let work = cache::directory().join("fetch/qemu");
    let _ = fs::remove_dir_all(&work);
    let unpacked = work.join("tree");
    let packages = PACKAGES.map(str::to_owned);
    Archive::open(&work, &suite)?.unpack(&packages, &unpacked)?;
    fs::rename(&unpacked, tree).with_context(|| format!("making {}", tree.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))
}

/// The suite of a Debian release's backports.
fn backports(os_release: &str) -> Option<String> {
    let codename = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(format!("{}-backports", codename.trim_matches('"')))
}

/// The numbers in `QEMU emulator version 7.2.22 (Debian ...)`.
fn version(answer: &str) -> Option<(u32, u32)> {
    let (_, version) = answer.split_once("version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_first_line() {
        let answer =
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003\n";
        assert_eq!(version(answer), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(version("qemu"), None);
        assert!((7, 2) < OLDEST && (10, 0) > OLDEST);
    }

    #[test]
    fn backports_are_those_of_the_release() {
        let release = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(backports(release).as_deref(), Some("bookworm-backports"));
        assert_eq!(backports("ID=arch\n"), None);
    }

    #[test]
    fn a_fetched_one_is_told_where_its_files_are() {
        let fetched = Emulator::in_tree(Path::new("/tree"));
        let line = shell::line(&fetched.command());
        assert!(line.contains("QEMU_MODULE_DIR=/tree/usr/lib"));
        assert!(line.contains("/tree/usr/bin/qemu-system-x86_64 -L /tree/usr/share/qemu"));
        assert!(!shell::line(&Emulator::of_machine().command()).contains("-L"));
    }
}
