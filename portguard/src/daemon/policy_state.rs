//! The policy's files: where they are, whether they changed, what is in force of them, and the result of each reload.

use super::options::{Fallback, FallbackKind};
use super::policy_saver::PolicySaver;
use super::policy_watcher::PolicyWatcher;
use crate::loader::{CompiledPolicy, PolicyLoader};
use crate::policy_names::Resolved;
use crate::status::{self, Reloads};
use portguard_policy::policy::{Policy, PolicyFiles};
use std::sync::Arc;

/// What came of a reload.
#[derive(Clone)]
pub(super) struct Reloaded {
    /// Warnings, as `check` prints them.
    pub(super) warnings: String,
    /// What the policy changes, in a line.
    pub(super) changes: String,
}

/// The loader, the watcher of its files, and the reloads so far.
pub(super) struct PolicyState {
    pub(super) loader: PolicyLoader,
    watcher: PolicyWatcher,
    reloads: Reloads,
    /// The policy in force.
    policy: Arc<Policy>,
    /// Its files.
    pub(super) sources: Arc<PolicyFiles>,
    /// Its names.
    pub(super) names: Resolved,
    /// How many of them could not be looked up in time.
    pub(super) late: usize,
    /// What of it does not work here.
    problems: Vec<String>,
    /// Why it is not that of the files.
    fallback: Option<Fallback>,
    saver: PolicySaver,
}

impl PolicyState {
    /// Watches the files of `loader`, which `fresh` was read from.
    pub(super) fn new(
        loader: PolicyLoader,
        fresh: &CompiledPolicy,
        watch: bool,
        saver: PolicySaver,
        fallback: Option<Fallback>,
    ) -> Self {
        let reloads = Reloads {
            error: fallback.as_ref().map(|why| why.error.clone()),
            last_success: fallback.is_none().then(status::now),
            ..Reloads::default()
        };
        Self {
            watcher: PolicyWatcher::open(loader.clone(), fresh.fingerprint, watch),
            policy: Arc::clone(&fresh.policy),
            loader,
            reloads,
            fallback,
            saver,
            sources: Arc::clone(&fresh.sources),
            names: fresh.names.clone(),
            late: fresh.late,
            problems: fresh.problems.clone(),
        }
    }

    /// Returns when the files have changed since they were last tried.
    pub(super) async fn changed(&mut self) {
        self.watcher.changed().await;
    }

    /// Whether the files that were read are whole; if not, they are read again once they are.
    pub(super) fn is_whole(&mut self) -> bool {
        self.watcher.is_whole()
    }

    /// The files are about to be read.
    pub(super) fn tried(&mut self) {
        self.watcher.tried();
    }

    /// The policy in force.
    pub(super) fn in_force(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    /// `fresh` is in force.
    pub(super) fn installed(&mut self, fresh: &CompiledPolicy) {
        self.policy = Arc::clone(&fresh.policy);
        self.sources = Arc::clone(&fresh.sources);
        self.names.clone_from(&fresh.names);
        self.late = fresh.late;
        self.problems.clone_from(&fresh.problems);
    }

    /// Records the result of a reload.
    pub(super) fn record(&mut self, result: &Result<Reloaded, String>) {
        self.reloads.last = Some(status::now());
        match result {
            Ok(_) => {
                self.reloads.done += 1;
                self.reloads.last_success.clone_from(&self.reloads.last);
                self.reloads.error = None;
                self.fallback = None;
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

    /// What stands in for broken files, if something does.
    pub(super) fn fallback(&self) -> Option<FallbackKind> {
        self.fallback.as_ref().map(|why| why.kind)
    }

    /// What of the policy in force does not work here.
    pub(super) fn problems(&self) -> impl Iterator<Item = &String> {
        let fallback = self.fallback.iter().map(|why| &why.problem);
        fallback.chain(&self.problems)
    }

    /// Keeps the first policy, where it is that of the files.
    pub(super) fn keep_first(&self, fresh: &CompiledPolicy) {
        if self.fallback.is_none() {
            self.saver.keep(&self.loader.paths, fresh);
        }
    }

    /// Keeps a policy that was reloaded, beside the loop.
    pub(super) fn keep(&mut self, fresh: &CompiledPolicy) {
        self.saver.keep_later(&self.loader.paths, fresh);
    }

    /// Waits until the policy is kept, for a while.
    pub(super) async fn kept(&mut self) {
        self.saver.done().await;
    }
}
