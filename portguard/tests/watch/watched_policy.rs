//! A watched policy, and what its watch reports.

use portguard::watch::{PolicyWatch, SETTLE, fingerprint};
use portguard_policy::policy::{SystemNames, load};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

/// Far more than any change takes; how long to wait for one that is not reported.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const ONE: &str = "version: 1\nrules: [{ name: one, action: allow, ports: [80] }]\n";
pub(crate) const TWO: &str = "version: 1\nrules: [{ name: two, action: allow, ports: [443] }]\n";

/// A watched policy.
pub(crate) struct WatchedPolicy {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) watch: PolicyWatch,
    runtime: tokio::runtime::Runtime,
}

impl WatchedPolicy {
    pub(crate) fn open(path: impl AsRef<Path>) -> Self {
        Self::open_all(&[path.as_ref().to_owned()])
    }

    pub(crate) fn open_all(paths: &[PathBuf]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let watch = runtime.block_on(async { PolicyWatch::new(paths) }).unwrap();
        Self {
            paths: paths.to_vec(),
            watch,
            runtime,
        }
    }

    /// Whether a change is reported within `time`.
    pub(crate) fn reports_within(&mut self, time: Duration) -> bool {
        let changed = async { timeout(time, self.watch.changed()).await.is_ok() };
        self.runtime.block_on(changed)
    }

    /// Whether nothing has happened since the last report.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let _inside = self.runtime.enter();
        self.watch.is_quiet()
    }

    /// Makes a change, which is reported and alters the fingerprint.
    #[track_caller]
    pub(crate) fn reports(&mut self, what: &str, change: impl FnOnce()) {
        let before = fingerprint(&self.paths);
        change();
        assert!(self.reports_within(DEADLINE), "not reported: {what}");
        assert_ne!(
            before,
            fingerprint(&self.paths),
            "same fingerprint after: {what}"
        );
    }

    /// Makes a change that causes no reload: it is not reported, or the fingerprint is the same.
    #[track_caller]
    pub(crate) fn ignores(&mut self, what: &str, change: impl FnOnce()) {
        let before = fingerprint(&self.paths);
        change();
        self.reports_within(SETTLE * 3);
        assert_eq!(
            before,
            fingerprint(&self.paths),
            "other fingerprint after: {what}"
        );
    }

    /// Makes a change that is not reported at all.
    #[track_caller]
    pub(crate) fn stays_silent(&mut self, what: &str, change: impl FnOnce()) {
        change();
        assert!(!self.reports_within(SETTLE * 3), "reported: {what}");
    }

    /// The names of the rules as the files are now.
    pub(crate) fn rules(&self) -> Vec<String> {
        let loaded = load(&self.paths, &SystemNames::LOCAL).unwrap();
        loaded
            .policy
            .rules
            .iter()
            .map(|rule| rule.name.clone())
            .collect()
    }
}

pub(crate) fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Replaces a file as editors and deployments do: another file under the same name.
pub(crate) fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}
