//! Follows a path and watches every directory in which a change can alter where it leads.

use super::error::WatchError;
use portguard_policy::path_parts::{MAX_LINKS, Part, parts};
use portguard_policy::policy::is_policy_name;
use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Names that appear, disappear, or become readable.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR)
    // A directory may be on several paths: one must not narrow the events of another.
    .union(WatchFlags::MASK_ADD);

/// Contents of files too.
const CONTENTS: WatchFlags = NAMES
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE);

/// The names in a directory that matter.
#[derive(Default)]
pub(super) struct WatchMask {
    /// The directory.
    pub(super) directory: PathBuf,
    names: HashSet<OsString>,
    /// Every name that a file of a policy directory can have.
    policies: bool,
}

impl WatchMask {
    pub(super) fn has(&self, name: &OsStr) -> bool {
        self.names.contains(name) || (self.policies && is_policy_name(name))
    }
}

/// Follows paths, and watches each directory before it reads it: a change after the read is then an event.
pub(super) struct PathWalk<'a> {
    inotify: &'a OwnedFd,
    /// The watched directories, by watch descriptor.
    pub(super) watched: HashMap<i32, WatchMask>,
}

/// Where a path ends.
enum End {
    Directory(PathBuf),
    /// A file, or nothing.
    Other,
}

impl<'a> PathWalk<'a> {
    pub(super) fn new(inotify: &'a OwnedFd) -> Self {
        Self {
            inotify,
            watched: HashMap::new(),
        }
    }

    /// Watches the path to a policy file or directory, and those to the files of the directory.
    pub(super) fn policy(&mut self, path: &Path) -> Result<(), WatchError> {
        let End::Directory(directory) = self.follow(path)? else {
            return Ok(());
        };
        let Some(mask) = self.watch(&directory, CONTENTS)? else {
            return Ok(());
        };
        mask.policies = true;
        let Ok(entries) = std::fs::read_dir(&directory) else {
            // Loading the policy reports why; that it can be listed again is an event.
            return Ok(());
        };
        for entry in entries.flatten() {
            let linked = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if linked && is_policy_name(&entry.file_name()) {
                self.follow(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Watches every directory along an absolute path, symbolic links included, as far as it exists.
    fn follow(&mut self, path: &Path) -> Result<End, WatchError> {
        let mut here = PathBuf::from("/");
        let mut ahead = parts(path);
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            let name = match part {
                Part::Root => {
                    here = PathBuf::from("/");
                    continue;
                }
                Part::Parent => {
                    // `here` contains no link, so this is its parent.
                    here.pop();
                    continue;
                }
                Part::Name(name) => name,
            };
            let Some(mask) = self.watch(&here, NAMES)? else {
                // Removed meanwhile: its name is watched in the directory above.
                return Ok(End::Other);
            };
            mask.names.insert(name.clone());
            let next = here.join(&name);
            let Ok(metadata) = std::fs::symlink_metadata(&next) else {
                return Ok(End::Other);
            };
            if metadata.is_dir() {
                here = next;
            } else if metadata.is_symlink() && links < MAX_LINKS {
                links += 1;
                let Ok(target) = std::fs::read_link(&next) else {
                    return Ok(End::Other);
                };
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            } else {
                self.watch(&here, CONTENTS)?;
                return Ok(End::Other);
            }
        }
        Ok(End::Directory(here))
    }

    /// Watches a directory; `None` where it is gone.
    fn watch(
        &mut self,
        directory: &Path,
        what: WatchFlags,
    ) -> Result<Option<&mut WatchMask>, WatchError> {
        match inotify::add_watch(self.inotify, directory, what) {
            Ok(number) => {
                let mask = self.watched.entry(number).or_default();
                directory.clone_into(&mut mask.directory);
                Ok(Some(mask))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(WatchError::of_watch(directory, error)),
        }
    }
}
