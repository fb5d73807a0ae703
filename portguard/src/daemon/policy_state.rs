//! The policy's files: where they are, whether they changed, and the result of each reload.

use super::policy_watcher::PolicyWatcher;
use crate::loader::{CompiledPolicy, PolicyLoader};
use crate::status::{self, Reloads};
use portguard_policy::policy::Fingerprint;

/// The loader, the watcher of its files, and the reloads so far.
pub(super) struct PolicyState {
    loader: PolicyLoader,
    watcher: PolicyWatcher,
    reloads: Reloads,
}

impl PolicyState {
    /// Watches the files of `loader`, whose contents were `read` when they were read.
    pub(super) fn new(loader: PolicyLoader, read: Fingerprint) -> Self {
        Self {
            watcher: PolicyWatcher::open(&loader.paths, read),
            loader,
            reloads: Reloads::default(),
        }
    }

    /// Returns when the files have changed since they were last tried.
    pub(super) async fn changed(&mut self) {
        self.watcher.changed().await;
    }

    /// Reads and compiles the policy; the error is as `check` prints it.
    pub(super) fn read(&mut self) -> Result<CompiledPolicy, String> {
        self.watcher.tried();
        // Without colour: `status` and `reload` show the text too.
        self.loader.read(false)
    }

    /// Records the result of a reload.
    pub(super) fn record(&mut self, result: &Result<String, String>) {
        self.reloads.last = Some(status::now());
        match result {
            Ok(_) => {
                self.reloads.done += 1;
                self.reloads.error = None;
            }
            Err(error) => {
                self.reloads.failed += 1;
                self.reloads.error = Some(error.clone());
            }
        }
    }

    pub(super) const fn reloads(&self) -> &Reloads {
        &self.reloads
    }
}
