//! Why policy files cannot be watched.

use rustix::io::Errno;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the files of a policy cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// No inotify instance is left.
    #[error(
        "cannot watch the policy's files: no inotify instance is left ({0}): raise the sysctl \
         fs.inotify.max_user_instances or the limit of open files (ulimit -n)"
    )]
    Instances(std::io::Error),
    /// The kernel has no inotify, or no memory for it.
    #[error("cannot watch the policy's files: {0}")]
    Inotify(std::io::Error),
    /// The event loop refuses the descriptor.
    #[error("cannot wait for changes of the policy's files: {0}")]
    Register(std::io::Error),
    /// No inotify watch is left for a directory.
    #[error(
        "cannot watch {}: no inotify watch is left ({source}): raise the sysctl \
         fs.inotify.max_user_watches", .path.display()
    )]
    Watches {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory cannot be watched.
    #[error("cannot watch {}: {source}: portguard must be able to read it", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A path that cannot be made absolute.
    #[error("cannot watch {:?}: {source}: give an absolute path", .path)]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl WatchError {
    pub(super) fn of_instance(error: Errno) -> Self {
        match error {
            Errno::MFILE | Errno::NFILE => Self::Instances(error.into()),
            _ => Self::Inotify(error.into()),
        }
    }

    pub(super) fn of_watch(directory: &Path, error: Errno) -> Self {
        let (path, source) = (directory.to_owned(), error.into());
        match error {
            Errno::NOSPC => Self::Watches { path, source },
            _ => Self::Directory { path, source },
        }
    }

    pub(super) fn of_path(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Path {
            path: path.clone(),
            source,
        }
    }
}
