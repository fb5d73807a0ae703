//! Watches the policy's files: they are reloaded where their contents differ from what was last tried.

use crate::loader::PolicyLoader;
use crate::stderr::log_line;
use crate::watch::PolicyWatch;
use portguard_policy::policy::Fingerprint;

/// The watch, and the contents that were last tried.
pub(super) struct PolicyWatcher {
    /// `None` with `--no-watch`, and where the kernel refuses it: then only SIGHUP and `reload` reload.
    watch: Option<PolicyWatch>,
    loader: PolicyLoader,
    /// `None` where what was read is not to be used.
    tried: Option<Fingerprint>,
    /// They changed before they were watched, so no event will come.
    missed: bool,
    /// Why some changes are not detected; logged once.
    problem: Option<String>,
}

impl PolicyWatcher {
    /// Watches these files and directories, whose contents were `read` when they were read; not where `watch` is false.
    pub(super) fn open(loader: PolicyLoader, read: Fingerprint, watch: bool) -> Self {
        let watch = watch.then(|| PolicyWatch::new(&loader.paths));
        if let Some(Err(error)) = &watch {
            log_line!("portguard: {error}; use SIGHUP or `portguard reload` after a change");
        }
        Self {
            watch: watch.and_then(Result::ok),
            tried: Some(read),
            missed: loader.sources().fingerprint() != read,
            loader,
            problem: None,
        }
    }

    /// Records the contents that are about to be tried.
    pub(super) fn tried(&mut self) {
        self.tried = Some(self.loader.sources().fingerprint());
    }

    /// Whether what was read after the last change is whole. If not, the next change is reported whatever the contents
    /// are then.
    pub(super) fn is_whole(&mut self) -> bool {
        let is_whole = self.watch.as_mut().is_none_or(PolicyWatch::is_quiet);
        if !is_whole {
            self.tried = None;
        }
        is_whole
    }

    /// Returns when the contents have changed.
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
                        "portguard: some changes of the policy's files are not detected: {problem}"
                    );
                }
                self.problem = problem;
            }
            if self.tried != Some(self.loader.sources().fingerprint()) {
                return;
            }
        }
    }
}
