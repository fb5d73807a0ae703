//! The directory of pins: locked, filled, replaced and removed.
//!
//! New links are pinned beside the old ones and renamed over them, so that every bind is decided.

use crate::kernel::bpf_sys;
use crate::kernel::error::KernelError;
use crate::kernel::maps::inner_maps::{OUTER, has_inner_pin};
use crate::kernel::maps::map_set::{self, Maps};
use crate::kernel::maps::slots::Slot;
use crate::kernel::object::attach::Programs;
use crate::kernel::object::embedded::declared_shapes;
use crate::kernel::object::hook::all_programs;
use crate::kernel::pin_error::PinError;
use crate::kernel::pins::manifest::PinManifest;
use crate::kernel::pins::pin_paths::{
    BPFFS, PINS, directory_of, file_error, is_link, link_path, pin_failed,
};
use crate::kernel::pins::pin_root::{Bpffs, names, remove_tree};
use aya::programs::links::FdLink;
use portguard_common::ABI_VERSION;
use rustix::fd::{AsFd as _, OwnedFd};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long to wait for programs to be unloaded: another process may hold one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the pinned maps cannot be used.
#[derive(Debug, Error)]
pub(in crate::kernel) enum UnusablePins {
    /// This ABI's directory is not there.
    #[error("the pins are gone")]
    Missing,
    /// A map is not there.
    #[error("the pinned map {0} is missing")]
    MissingMap(&'static str),
    /// A map has another shape.
    #[error("the pinned map {0} has another layout than this version's")]
    MapShape(&'static str),
    /// The map in a slot of a map of maps is not pinned.
    #[error("the pin of the map in {0} is missing")]
    MissingInner(&'static str),
    /// The object, which declares the shapes, cannot be read.
    #[error(transparent)]
    Object(#[from] KernelError),
}

/// The directory of pins, locked by this process.
pub struct Pins {
    bpffs: Bpffs,
    root: PathBuf,
    _lock: OwnedFd,
}

impl Pins {
    /// Makes the directory in the bpffs at `bpffs` where it is missing, and locks it.
    pub fn open(bpffs: &Path) -> Result<Self, PinError> {
        let bpffs = Bpffs::open(bpffs)?;
        let path = bpffs.root_path();
        let Some(lock) = bpffs.lock()? else {
            let root = bpffs.root().ok();
            let manifest = root.and_then(|_| PinManifest::read(&directory_of(&path)));
            let pid = manifest.map(|manifest| manifest.pid);
            return Err(PinError::Held { pid });
        };
        bpffs.make_root()?;
        Ok(Self {
            bpffs,
            root: path,
            _lock: lock,
        })
    }

    /// Whether the directory is there.
    ///
    /// # Errors
    /// What is there is not root's alone.
    pub fn exist() -> Result<bool, PinError> {
        if Path::new(PINS).symlink_metadata().is_err() {
            return Ok(false);
        }
        Bpffs::open(Path::new(BPFFS))?.root()?;
        Ok(true)
    }

    /// The directory of this ABI.
    pub(in crate::kernel) fn directory(&self) -> PathBuf {
        directory_of(&self.root)
    }

    /// The same as others find it: a service may have bpffs at a path of its own.
    pub(in crate::kernel) fn shown_directory(&self) -> PathBuf {
        let inode = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
        match inode(Path::new(PINS)) {
            usual @ Some(_) if usual == inode(&self.root) => directory_of(Path::new(PINS)),
            _ => self.directory(),
        }
    }

    /// Whether anything is pinned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        children(&self.root).is_empty()
    }

    /// Checks that this ABI's directory has every map, each in this version's shape.
    pub(in crate::kernel) fn check_maps(&self) -> Result<(), UnusablePins> {
        let directory = self.directory();
        if !directory.is_dir() {
            return Err(UnusablePins::Missing);
        }
        let declared = declared_shapes()?;
        for name in map_set::NAMES {
            let pinned = map_set::pinned_shape(&directory.join(name));
            let pinned = pinned.ok_or(UnusablePins::MissingMap(name))?;
            if Some(&pinned) != declared.get(name) {
                return Err(UnusablePins::MapShape(name));
            }
        }
        let unpinned = |name: &&str| match *name {
            "POLICY" => Slot::in_force_of(&directory)
                .is_some_and(|slot| !has_inner_pin(&directory, name, slot.index())),
            _ => !has_inner_pin(&directory, name, 0),
        };
        match OUTER.into_iter().find(unpinned) {
            Some(name) => Err(UnusablePins::MissingInner(name)),
            None => Ok(()),
        }
    }

    /// Pins the maps whose pins are gone or hold something else.
    pub(in crate::kernel) fn restore_maps(&self, maps: &Maps) -> Result<(), KernelError> {
        let directory = self.directory();
        self.bpffs.make_root()?;
        if !directory.exists() {
            make(&directory)?;
        }
        for (name, _) in maps.iter() {
            let path = directory.join(name);
            if map_set::pinned_shape(&path).is_none() {
                let _ = std::fs::remove_file(&path);
            }
        }
        pin_maps(&directory, maps)
    }

    /// Makes a directory beside the current one, for new maps.
    pub(in crate::kernel) fn stage(&self) -> Result<PathBuf, PinError> {
        let path = self
            .root
            .join(format!("v{ABI_VERSION}_new_{}", std::process::id()));
        make(&path)?;
        Ok(path)
    }

    /// Renames a staged directory to that of this ABI. The previous one is moved aside, for [`Self::sweep`] to remove.
    pub(in crate::kernel) fn take_stage(&self, stage: &Path) -> Result<(), PinError> {
        let directory = self.directory();
        if directory.exists() {
            let aside = self
                .root
                .join(format!("v{ABI_VERSION}_old_{}", std::process::id()));
            std::fs::rename(&directory, &aside).map_err(file_error("rename", &directory))?;
        }
        std::fs::rename(stage, &directory).map_err(file_error("rename", stage))
    }

    /// Removes everything but this ABI's directory, and in that every link but those of `programs`.
    pub(in crate::kernel) fn sweep(&self, programs: &[&str]) -> Result<(), PinError> {
        let directory = self.directory();
        let root = self.bpffs.root()?;
        for name in names(&root, &self.root)? {
            if Some(name.to_bytes()) != directory.file_name().map(OsStr::as_encoded_bytes) {
                remove_tree(&root, &name, &self.root)?;
            }
        }
        for name in all_programs().filter(|name| !programs.contains(name)) {
            let path = link_path(&directory, name);
            if path.exists() {
                std::fs::remove_file(&path).map_err(file_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes everything: when this returns enforcement has ended, unless another process holds a program.
    pub fn remove_all(&self) -> Result<(), PinError> {
        self.remove_all_until(|| true)
    }

    /// The same, where `is_gone` says whether the programs have gone.
    pub(in crate::kernel) fn remove_all_until(
        &self,
        is_gone: impl Fn() -> bool,
    ) -> Result<(), PinError> {
        let programs = self.programs();
        self.bpffs.remove_all()?;
        wait_for_unload(&programs, is_gone);
        Ok(())
    }

    /// Ids of all programs whose links are pinned, by any version.
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

/// Pins each map that is not pinned yet.
pub(in crate::kernel) fn pin_maps(directory: &Path, maps: &Maps) -> Result<(), KernelError> {
    for (name, map) in maps.iter() {
        let path = directory.join(name);
        if !path.exists() {
            map.pin(&path).map_err(|error| pin_failed(&path, error))?;
        }
    }
    Ok(())
}

/// Pins the links that are not pinned yet, each in place of the one before, and records what they are.
pub(in crate::kernel) fn pin_programs(
    directory: &Path,
    programs: &mut Programs,
) -> Result<(), KernelError> {
    if programs.has_unpinned_links() {
        PinManifest::invalidate(directory)?;
    }
    while let Some((name, link)) = programs.take_link() {
        pin_link(directory, name, link)?;
    }
    PinManifest::of(programs).write(directory)
}

/// Pins a link in place of the one that is there: the old one goes when the new one is in place.
fn pin_link(directory: &Path, name: &str, link: FdLink) -> Result<(), KernelError> {
    let fresh = directory.join(format!("link_{name}_new"));
    let path = link_path(directory, name);
    let _ = std::fs::remove_file(&fresh);
    link.pin(&fresh)
        .map_err(|error| pin_failed(&fresh, error))?;
    std::fs::rename(&fresh, &path).map_err(file_error("rename", &fresh))?;
    Ok(())
}

/// Waits until none of these programs is loaded: the kernel detaches a link a moment after its last pin is gone
/// (`bpf_link_put_deferred`, 5.10 to 7.2), and until then its program also decides. Without CAP_SYS_ADMIN the kernel
/// does not say which programs are loaded: then `is_gone` says whether they have gone.
pub(in crate::kernel) fn wait_for_unload(programs: &BTreeSet<u32>, is_gone: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    let is_loaded = |program: &u32| bpf_sys::is_loaded(*program).unwrap_or_else(|_| !is_gone());
    while programs.iter().any(is_loaded) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Makes a directory for root alone.
fn make(path: &Path) -> Result<(), PinError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(file_error("make", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_pins_name_the_map() {
        for (error, text) in [
            (UnusablePins::Missing, "the pins are gone"),
            (
                UnusablePins::MissingMap("POLICY"),
                "the pinned map POLICY is missing",
            ),
            (
                UnusablePins::MapShape("TRIE"),
                "the pinned map TRIE has another layout than this version's",
            ),
            (
                UnusablePins::MissingInner("POLICY"),
                "the pin of the map in POLICY is missing",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
