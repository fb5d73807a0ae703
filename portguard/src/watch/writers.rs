//! Files that are still being written: half of a file is not a policy, even where it is valid.

use portguard_policy::policy::PolicyFiles;
use rustix::fs::inotify::ReadFlags;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What an event means for a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing yet.
    Nothing,
    /// The policy may have changed.
    Change,
}

/// The names that were written since they were last closed, each in its watched directory.
#[derive(Debug, Default)]
pub(super) struct Writers {
    open: HashSet<(i32, OsString)>,
}

impl Writers {
    /// Takes note of an event about `name` in `directory`.
    pub(super) fn note(
        &mut self,
        events: ReadFlags,
        number: i32,
        name: &OsStr,
        directory: &Path,
    ) -> Meaning {
        let entry = || (number, name.to_owned());
        if events.contains(ReadFlags::MODIFY) {
            self.open.insert(entry());
            return Meaning::Nothing;
        }
        if events.contains(ReadFlags::CREATE) && is_new(&directory.join(name)) {
            // A close follows. A link, a directory and a file that comes with its contents have none.
            return Meaning::Nothing;
        }
        if !events.contains(ReadFlags::ATTRIB) {
            self.open.remove(&entry());
        }
        Meaning::Change
    }

    /// Forgets the directories that are no longer watched.
    pub(super) fn retain(&mut self, is_watched: impl Fn(i32) -> bool) {
        self.open.retain(|(number, _)| is_watched(*number));
    }

    /// Events were lost: a file may have been closed since.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    /// A file that is still open.
    pub(super) fn any(&self) -> Option<&OsStr> {
        self.open.iter().next().map(|(_, name)| name.as_os_str())
    }
}

/// Whether it is a file that was opened to be written and is still empty.
fn is_new(path: &Path) -> bool {
    let metadata = path.symlink_metadata();
    metadata.is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// What can be seen of the policy's files without reading them. A file that differs from one moment to the next is
/// being written, by any process and in any way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamps {
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let files = PolicyFiles::list(paths).into_iter();
        let stamp = |path: &PathBuf| {
            let file = path.metadata().ok()?;
            Some(Stamp {
                inode: file.ino(),
                size: file.size(),
                modified: (file.mtime(), file.mtime_nsec()),
            })
        };
        Self(files.map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Whether a file was written within `age` before now.
    pub(super) fn is_fresh(&self, age: Duration) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let oldest = now.unwrap_or_default().saturating_sub(age);
        let mut stamps = self.0.iter().filter_map(|(_, stamp)| stamp.as_ref());
        stamps.any(|stamp| {
            let (seconds, nanos) = stamp.modified;
            let modified = (u64::try_from(seconds).unwrap_or_default(), nanos);
            modified >= (oldest.as_secs(), i64::from(oldest.subsec_nanos()))
        })
    }
}
