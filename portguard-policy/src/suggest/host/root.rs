//! The files of a host, below its root directory.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a host cannot be inspected.
#[derive(Debug, Error)]
pub enum HostError {
    /// The path is not a host's root directory.
    #[error("{0} is not the root directory of a host: it has no `proc` and no `etc`")]
    NoRoot(PathBuf),
    /// A file is there and cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
}

/// The text of a file; `None` where it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>, HostError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HostError::Read(path.to_owned(), error)),
    }
}

/// The entries of a directory in byte order; none where it does not exist.
pub(super) fn entries(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A path as the host has it, without the root that it was found under.
pub(super) fn on_host(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    format!("/{}", below.display())
}
