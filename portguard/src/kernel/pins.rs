//! Links and maps in bpffs: enforcement that needs no daemon, and what a later one finds of it.
//!
//! `/sys/fs/bpf/portguard/vN/` has every map under its name and every link as `link_PROGRAM`; `N` is the ABI of
//! the maps. The map `META` says what the links were when they were last known to be right, and is written last:
//! without it a directory is what a killed start or a foreign hand left, and is used with care or not at all.
//! New links are pinned beside the old ones and renamed over them, so that no bind is unguarded.

use super::bpf;
use super::enforcer::Hook;
use super::error::{KernelError, map_error};
use super::maps::{self, Maps};
use super::programs::{CGROUP_PROGRAMS, Features, LSM_PROGRAMS};
use aya::maps::{Array, Map, MapData};
use aya::programs::links::FdLink;
use portguard_common::ABI_VERSION;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where portguard pins.
pub const PINS: &str = "/sys/fs/bpf/portguard";

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The map that says what the links are.
const META: &str = "META";
const META_WORDS: u32 = 16;

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

/// What the links in a directory were when they were last known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// SHA-256 of the object that the programs came from.
    pub(super) object: [u64; 4],
    /// The hook that decides.
    pub(super) hook: Hook,
    /// What the cgroup programs may do.
    pub(super) features: Features,
    /// Numbers of the programs, as [`link_names`] lists them; 0 for one that is not there.
    pub(super) programs: [u32; 4],
    /// The process that wrote this.
    pub(super) pid: u32,
}

/// Every program, LSM first.
pub(super) fn link_names() -> impl Iterator<Item = &'static str> {
    LSM_PROGRAMS.into_iter().chain(CGROUP_PROGRAMS)
}

/// The digest of this version's object, as words.
pub(super) fn object_digest() -> [u64; 4] {
    let digest = Sha256::digest(super::object());
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
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
                pid: Meta::read(&directory_of(&root)).map(|meta| meta.pid),
            }
        })?;
        let pins = Self { root, _lock: lock };
        Ok(pins)
    }

    /// The directory of this ABI.
    pub(super) fn directory(&self) -> PathBuf {
        directory_of(&self.root)
    }

    /// Whether anything is pinned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        children(&self.root).is_empty()
    }

    /// Whether this ABI's directory has every map, each as this version has it; else why not, where there is a
    /// directory.
    pub(super) fn usable_maps(&self) -> Result<(), Option<String>> {
        let directory = self.directory();
        if !directory.is_dir() {
            return Err(None);
        }
        let declared = maps::declared_shapes().map_err(|error| Some(error.to_string()))?;
        for name in maps::NAMES {
            let found = maps::pinned_shape(&directory.join(name));
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
    pub(super) fn pin_maps(directory: &Path, maps: &Maps) -> Result<(), KernelError> {
        for (name, map) in maps.iter() {
            let path = directory.join(name);
            if !path.exists() {
                map.pin(&path).map_err(|error| pin_failed(&path, error))?;
            }
        }
        Ok(())
    }

    /// Pins a link in place of the one that is there: the old one goes when the new one is in place.
    pub(super) fn pin_link(directory: &Path, name: &str, link: FdLink) -> Result<(), KernelError> {
        let fresh = directory.join(format!("link_{name}_new"));
        let path = link_path(directory, name);
        let _ = std::fs::remove_file(&fresh);
        link.pin(&fresh)
            .map_err(|error| pin_failed(&fresh, error))?;
        std::fs::rename(&fresh, &path).map_err(file("rename", &fresh))?;
        Ok(())
    }

    /// A directory beside all others, for maps that are new.
    pub(super) fn stage(&self) -> Result<PathBuf, PinError> {
        let path = self
            .root
            .join(format!("v{ABI_VERSION}_new_{}", std::process::id()));
        std::fs::create_dir(&path).map_err(file("make", &path))?;
        Ok(path)
    }

    /// Makes a staged directory that of this ABI. What was there is swept with the rest.
    pub(super) fn take_stage(&self, stage: &Path) -> Result<(), PinError> {
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
    pub(super) fn sweep(&self, programs: &[&str]) -> Result<(), PinError> {
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

    /// Removes everything: enforcement ends, unless a program is attached otherwise.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub fn remove_all(&self) -> Result<(), PinError> {
        remove_tree(&self.root)
    }
}

/// The directory of this ABI below `root`.
fn directory_of(root: &Path) -> PathBuf {
    root.join(format!("v{ABI_VERSION}"))
}

/// Where this ABI's maps and links are pinned.
pub(super) fn pinned_directory() -> PathBuf {
    directory_of(Path::new(PINS))
}

pub(super) fn link_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("link_{name}"))
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

fn pin_failed(path: &Path, error: aya::pin::PinError) -> PinError {
    file("pin", path)(match error {
        aya::pin::PinError::SyscallError(error) => error.io_error,
        other => io::Error::other(other.to_string()),
    })
}

impl Meta {
    /// Words: ABI, object (4), hook, features, programs (4), pid, and 1 where the rest is whole.
    const WHOLE: u32 = 12;

    /// What a directory's links were; `None` where that was never written, or not to its end.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let map = MapData::from_pin(directory.join(META)).ok()?;
        let map = Map::from_map_data(map).ok()?;
        let map: Array<_, u64> = Array::try_from(&map).ok()?;
        let mut words = [0; META_WORDS as usize];
        for (index, word) in (0..).zip(&mut words) {
            *word = map.get(&index, 0).ok()?;
        }
        let [abi, a, b, c, d, hook, features, p, q, r, s, pid, whole, ..] = words;
        if whole != 1 || abi != u64::from(ABI_VERSION) {
            return None;
        }
        Some(Self {
            object: [a, b, c, d],
            hook: if hook == 1 { Hook::Lsm } else { Hook::Cgroup },
            features: Features {
                grants: features & 1 != 0,
                set_errno: features & 2 != 0,
            },
            programs: [p, q, r, s].map(|id| id as u32),
            pid: pid as u32,
        })
    }

    /// Writes it, whole or not at all to a reader.
    pub(super) fn write(&self, directory: &Path) -> Result<(), KernelError> {
        let mut map = Self::open(directory)?;
        let [a, b, c, d] = self.object;
        let [p, q, r, s] = self.programs.map(u64::from);
        let features = u64::from(self.features.grants) | u64::from(self.features.set_errno) << 1;
        let hook = u64::from(self.hook == Hook::Lsm);
        let pid = u64::from(self.pid);
        let abi = u64::from(ABI_VERSION);
        let words = [abi, a, b, c, d, hook, features, p, q, r, s, pid, 1];
        for (index, word) in (0..).zip(words) {
            map.set(index, word, 0).map_err(map_error(META))?;
        }
        Ok(())
    }

    /// Says that links are about to change.
    pub(super) fn invalidate(directory: &Path) -> Result<(), KernelError> {
        Self::open(directory)?
            .set(Self::WHOLE, 0u64, 0)
            .map_err(map_error(META))
    }

    fn open(directory: &Path) -> Result<Array<MapData, u64>, KernelError> {
        let path = directory.join(META);
        let pinned = || {
            let map = MapData::from_pin(&path).and_then(Map::from_map_data)?;
            Array::try_from(map)
        };
        if let Ok(map) = pinned() {
            return Ok(map);
        }
        // Missing, or something else of that name.
        let _ = std::fs::remove_file(&path);
        Array::<MapData, u64>::create(META_WORDS, 0)
            .map_err(map_error(META))?
            .pin(&path)
            .map_err(|error| pin_failed(&path, error))?;
        pinned().map_err(map_error(META))
    }

    /// What is wrong with the links of a directory; empty where each is what it was.
    pub(super) fn lies(&self, directory: &Path) -> Vec<String> {
        let mut lies = Vec::new();
        for (name, program) in link_names().zip(self.programs) {
            let lsm = LSM_PROGRAMS.contains(&name);
            if program == 0 {
                continue;
            }
            let kind = if lsm {
                bpf::LINK_TRACING
            } else {
                bpf::LINK_CGROUP
            };
            let info = bpf::open_pin(&link_path(directory, name))
                .and_then(|link| bpf::link_info(link.as_fd()));
            match info {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    lies.push(format!("the pin of the link of {name} is gone"));
                }
                Err(error) => lies.push(format!("the pin of the link of {name}: {error}")),
                Ok(info) if info.kind != kind || info.program != program => {
                    lies.push(format!(
                        "the pin of the link of {name} is another program's"
                    ));
                }
                Ok(info) if !lsm && info.cgroup == 0 => {
                    lies.push(format!("the link of {name} was detached behind its pin"));
                }
                Ok(_) => {}
            }
        }
        lies
    }
}
