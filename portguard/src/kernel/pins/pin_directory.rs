//! Links and maps in bpffs: enforcement that needs no daemon, and what a later one finds of it.
//!
//! `/sys/fs/bpf/portguard/vN/` has every map under its name and every link as `link_PROGRAM`; `N` is the ABI of
//! the maps. The map `META` says what the links were when they were last known to be right, and is written last:
//! without it a directory is what a killed start or a foreign hand left, and is used with care or not at all.
//! New links are pinned beside the old ones and renamed over them, so that no bind is unguarded.

use crate::kernel::bpf_sys;
use crate::kernel::error::KernelError;
use crate::kernel::maps::map_set::{self, Maps};
use crate::kernel::pins::manifest::{PinManifest, link_names};
use aya::programs::links::FdLink;
use portguard_common::ABI_VERSION;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Where portguard pins.
pub const PINS: &str = "/sys/fs/bpf/portguard";

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// How long programs get to go: somebody else may hold one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why pins cannot be made, read or removed.
#[derive(Debug, Error)]
pub enum PinError {
    /// No bpffs.
    #[error(
        "/sys/fs/bpf is no bpffs, so nothing can be pinned\n  mount -t bpf bpf /sys/fs/bpf, or run without --pin"
    )]
    NoBpffs,
    /// Another portguard has them.
    #[error(
        "another portguard{} has the pins in {PINS}: stop it first (`portguard status` tells of it)",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// Its process, where it is known.
        pid: Option<u32>,
    },
    /// The file system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn file<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PinError + 'a {
    move |source| PinError::File {
        what,
        path: path.into(),
        source,
    }
}

/// The pins, which are this process's alone while this lives.
pub struct Pins {
    root: PathBuf,
    _lock: OwnedFd,
}

impl Pins {
    /// Opens the pins, whatever is there, and keeps others out.
    ///
    /// # Errors
    /// Where there is no bpffs, or another portguard has them.
    pub fn open() -> Result<Self, PinError> {
        let root = PathBuf::from(PINS);
        let bpffs = root.parent().unwrap_or(&root);
        let kind = rustix::fs::statfs(bpffs).map_err(|_| PinError::NoBpffs)?;
        if kind.f_type.cast_unsigned() != BPF_FS_MAGIC {
            return Err(PinError::NoBpffs);
        }
        match std::fs::create_dir(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file("make", &root)(error));
            }
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&root, flags, Mode::empty())
            .map_err(|error| file("open", &root)(error.into()))?;
        // Only root can open a directory of bpffs, so nobody else can keep portguard out.
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            PinError::Held {
                pid: PinManifest::read(&directory_of(&root)).map(|manifest| manifest.pid),
            }
        })?;
        let pins = Self { root, _lock: lock };
        Ok(pins)
    }

    /// The directory of this ABI.
    pub(in crate::kernel) fn directory(&self) -> PathBuf {
        directory_of(&self.root)
    }

    /// Whether anything is pinned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        children(&self.root).is_empty()
    }

    /// Whether this ABI's directory has every map, each as this version has it; else why not, where there is a
    /// directory.
    pub(in crate::kernel) fn usable_maps(&self) -> Result<(), Option<String>> {
        let directory = self.directory();
        if !directory.is_dir() {
            return Err(None);
        }
        let declared = map_set::declared_shapes().map_err(|error| Some(error.to_string()))?;
        for name in map_set::NAMES {
            let found = map_set::pinned_shape(&directory.join(name));
            if found.is_none() {
                return Err(Some(format!("its map {name} is missing")));
            }
            if found != declared.get(name).copied() {
                return Err(Some(format!(
                    "its map {name} is not as this version has it"
                )));
            }
        }
        Ok(())
    }

    /// Pins a map that is not pinned yet.
    pub(in crate::kernel) fn pin_maps(directory: &Path, maps: &Maps) -> Result<(), KernelError> {
        for (name, map) in maps.iter() {
            let path = directory.join(name);
            if !path.exists() {
                map.pin(&path).map_err(|error| pin_failed(&path, error))?;
            }
        }
        Ok(())
    }

    /// Pins a link in place of the one that is there: the old one goes when the new one is in place.
    pub(in crate::kernel) fn pin_link(
        directory: &Path,
        name: &str,
        link: FdLink,
    ) -> Result<(), KernelError> {
        let fresh = directory.join(format!("link_{name}_new"));
        let path = link_path(directory, name);
        let _ = std::fs::remove_file(&fresh);
        link.pin(&fresh)
            .map_err(|error| pin_failed(&fresh, error))?;
        std::fs::rename(&fresh, &path).map_err(file("rename", &fresh))?;
        Ok(())
    }

    /// A directory beside all others, for maps that are new.
    pub(in crate::kernel) fn stage(&self) -> Result<PathBuf, PinError> {
        let path = self
            .root
            .join(format!("v{ABI_VERSION}_new_{}", std::process::id()));
        std::fs::create_dir(&path).map_err(file("make", &path))?;
        Ok(path)
    }

    /// Makes a staged directory that of this ABI. What was there is swept with the rest.
    pub(in crate::kernel) fn take_stage(&self, stage: &Path) -> Result<(), PinError> {
        let directory = self.directory();
        if directory.exists() {
            let aside = self
                .root
                .join(format!("v{ABI_VERSION}_old_{}", std::process::id()));
            std::fs::rename(&directory, &aside).map_err(file("rename", &directory))?;
        }
        std::fs::rename(stage, &directory).map_err(file("rename", stage))
    }

    /// Removes all but this ABI's directory, in which only links of `programs` stay.
    pub(in crate::kernel) fn sweep(&self, programs: &[&str]) -> Result<(), PinError> {
        let directory = self.directory();
        for path in children(&self.root) {
            if path != directory {
                remove_tree(&path)?;
            }
        }
        for name in link_names().filter(|name| !programs.contains(name)) {
            let path = link_path(&directory, name);
            if path.exists() {
                std::fs::remove_file(&path).map_err(file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes everything: when this returns enforcement has ended, unless a program is attached otherwise.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub fn remove_all(&self) -> Result<(), PinError> {
        let programs = self.programs();
        remove_tree(&self.root)?;
        wait_for_unload(&programs);
        Ok(())
    }

    /// Numbers of all programs whose links are pinned, whoever pinned them.
    pub(in crate::kernel) fn programs(&self) -> BTreeSet<u32> {
        let directories = children(&self.root).into_iter();
        let links = directories.flat_map(|directory| children(&directory));
        let links = links.filter(|path| is_link(path));
        let info = links.filter_map(|path| {
            let link = bpf_sys::open_pin(&path).ok()?;
            bpf_sys::link_info(link.as_fd()).ok()
        });
        info.map(|info| info.program).collect()
    }
}

/// The directory of this ABI below `root`.
fn directory_of(root: &Path) -> PathBuf {
    root.join(format!("v{ABI_VERSION}"))
}

/// Where this ABI's maps and links are pinned.
pub(in crate::kernel) fn pinned_directory() -> PathBuf {
    directory_of(Path::new(PINS))
}

pub(in crate::kernel) fn link_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("link_{name}"))
}

fn is_link(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::as_encoded_bytes);
    name.is_some_and(|name| name.starts_with(b"link_"))
}

/// Waits until none of these programs is loaded: the kernel detaches a link a moment after its last pin is gone
/// (`bpf_link_put_deferred`, 5.10 to 7.2), and till then its program judges beside the next one.
pub(in crate::kernel) fn wait_for_unload(programs: &BTreeSet<u32>) {
    let until = Instant::now() + PATIENCE;
    while programs.iter().any(|program| bpf_sys::is_loaded(*program)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Links first: a map without its programs does no harm, and programs without their pins are gone.
fn remove_tree(directory: &Path) -> Result<(), PinError> {
    let mut paths = children(directory);
    paths.sort();
    paths.reverse();
    for path in paths {
        if path.is_dir() {
            remove_tree(&path)?;
        } else {
            std::fs::remove_file(&path).map_err(file("remove", &path))?;
        }
    }
    std::fs::remove_dir(directory).map_err(file("remove", directory))
}

pub(in crate::kernel) fn pin_failed(path: &Path, error: aya::pin::PinError) -> PinError {
    file("pin", path)(match error {
        aya::pin::PinError::SyscallError(error) => error.io_error,
        other => io::Error::other(other.to_string()),
    })
}
