//! The eye on the policy's files: a reload where they say anything else than what was last tried.

use crate::stderr::log_line;
use crate::watch::{PolicyWatch, fingerprint};
use portguard_policy::policy::Fingerprint;
use std::path::PathBuf;

/// What is watched, and what was last tried of it.
pub(super) struct PolicyWatcher {
    /// `None` where the kernel does not let us: then only SIGHUP and `reload` do.
    watch: Option<PolicyWatch>,
    paths: Vec<PathBuf>,
    tried: Fingerprint,
    /// They changed before they were watched: no event tells of it.
    missed: bool,
    /// Why some changes are not seen; said once.
    problem: Option<String>,
}

impl PolicyWatcher {
    /// Watches these files and directories, which said `read` when they were read.
    pub(super) fn open(paths: &[PathBuf], read: Fingerprint) -> Self {
        let watch = PolicyWatch::new(paths);
        if let Err(error) = &watch {
            log_line!(
                "portguard: {error}; changed files are taken by SIGHUP and `portguard reload` only"
            );
        }
        Self {
            watch: watch.ok(),
            paths: paths.to_vec(),
            tried: read,
            missed: fingerprint(paths) != read,
            problem: None,
        }
    }

    /// Remembers what is about to be tried.
    pub(super) fn tried(&mut self) {
        self.tried = fingerprint(&self.paths);
    }

    /// Returns when the files say something new.
    pub(super) async fn changed(&mut self) {
        let Some(watch) = &mut self.watch else {
            return std::future::pending().await;
        };
        loop {
            if !std::mem::take(&mut self.missed) {
                watch.changed().await;
                let problem = watch.problem().map(ToString::to_string);
                if let Some(problem) = &problem
                    && self.problem != Some(problem.clone())
                {
                    log_line!(
                        "portguard: some changes of the policy's files will not be seen: {problem}"
                    );
                }
                self.problem = problem;
            }
            if self.tried != fingerprint(&self.paths) {
                return;
            }
        }
    }
}
