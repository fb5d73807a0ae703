//! target/vm, the cache of kernels, packages and the files of guests.

use crate::repo;
use anyhow::{Context, Result};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The directory.
pub(super) fn directory() -> PathBuf {
    repo::path("target/vm")
}

/// Waits until no other xtask uses the directory, and locks it until this process ends.
pub(crate) fn lock() -> Result<()> {
    static HELD: Mutex<Option<File>> = Mutex::new(None);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(directory()).context("creating target/vm")?;
    let file = File::create(directory().join("lock")).context("opening target/vm/lock")?;
    if file.try_lock().is_err() {
        eprintln!("xtask: waiting for another xtask that runs guests");
        file.lock().context("locking target/vm/lock")?;
    }
    *held = Some(file);
    Ok(())
}
