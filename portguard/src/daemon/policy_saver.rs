//! Keeps the policy in force on disk, one after the other.

use super::confined_job::{self, Job};
use crate::loader::CompiledPolicy;
use crate::policy_store::{PolicyStore, StoreError};
use crate::sandbox::Sandbox;
use crate::stderr::log_line;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long the end of the daemon waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The store, and what is being written.
pub(super) struct PolicySaver {
    store: PolicyStore,
    sandbox: Sandbox,
    /// How many policies were handed over; the last that was begun counts.
    handed: u64,
    written: Arc<Mutex<u64>>,
    running: Option<Job<()>>,
}

impl PolicySaver {
    pub(super) fn new(store: PolicyStore, sandbox: Sandbox) -> Self {
        Self {
            store,
            sandbox,
            handed: 0,
            written: Arc::default(),
            running: None,
        }
    }

    /// Keeps a policy now.
    pub(super) fn keep(&self, paths: &[PathBuf], fresh: &CompiledPolicy) {
        report(self.store.keep(paths, &fresh.to_keep()));
    }

    /// Keeps a policy on another thread: the disk may be slow.
    pub(super) fn keep_later(&mut self, paths: &[PathBuf], fresh: &CompiledPolicy) {
        self.handed += 1;
        let (store, number, written) = (self.store.clone(), self.handed, Arc::clone(&self.written));
        let (paths, fresh) = (paths.to_vec(), fresh.to_keep());
        let directories = vec![store.directory().to_owned()];
        let started = confined_job::start(&self.sandbox, directories, move || {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            // A newer one may have come first.
            if *written < number {
                *written = number;
                report(store.keep(&paths, &fresh));
            }
        });
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => log_line!(
                "portguard: the policy is not kept for a start with broken files: cannot start a thread: {error}"
            ),
        }
    }

    /// Waits until the last policy is written, for a while.
    pub(super) async fn done(&mut self) {
        if let Some(running) = self.running.take() {
            // What is not written by then is not kept: the one before stays.
            let _ = timeout(PATIENCE, running).await;
        }
    }
}

fn report(kept: Result<(), StoreError>) {
    if let Err(error) = kept {
        log_line!(
            "portguard: the policy is not kept for a start with broken files: {error}; see --state"
        );
    }
}
