//! The directories of the verb.

use crate::repo;
use std::path::PathBuf;

/// Where the artefacts are.
pub(super) fn artefacts() -> PathBuf {
    repo::path("target/dist")
}

/// Where they are made.
pub(super) fn work(name: &str) -> PathBuf {
    artefacts().join("work").join(name)
}
