//! target/vm, where kernels, packages and the files of guests are kept.

use crate::repo;
use anyhow::{Context, Result};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Where guests' files are kept.
pub(super) fn directory() -> PathBuf {
    repo::path("target/vm")
}

/// Waits until no other xtask uses target/vm; it stays this one's until the process ends.
pub(crate) fn lock() -> Result<()> {
    static HELD: Mutex<Option<File>> = Mutex::new(None);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(directory()).context("making target/vm")?;
    let file = File::create(directory().join("lock")).context("opening target/vm/lock")?;
    if file.try_lock().is_err() {
        eprintln!("xtask: waiting for another xtask with guests of its own");
        file.lock().context("locking target/vm/lock")?;
    }
    *held = Some(file);
    Ok(())
}
