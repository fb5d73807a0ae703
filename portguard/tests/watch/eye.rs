//! A watched policy, and what its watcher is told.

use portguard::watch::{PolicyWatch, SETTLE, fingerprint};
use portguard_policy::policy::{SystemNames, load};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

/// Far more than any change takes; a change that is not seen is waited for this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const ONE: &str = "version: 1\nrules: [{ name: one, action: allow, ports: [80] }]\n";
pub(crate) const TWO: &str = "version: 1\nrules: [{ name: two, action: allow, ports: [443] }]\n";

/// A watched policy, and what its files said when a change was last looked at.
pub(crate) struct Eye {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) watch: PolicyWatch,
    runtime: tokio::runtime::Runtime,
}

impl Eye {
    pub(crate) fn on(path: impl AsRef<Path>) -> Self {
        Self::on_all(&[path.as_ref().to_owned()])
    }

    pub(crate) fn on_all(paths: &[PathBuf]) -> Self {
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

    /// Whether a change is told within `time`.
    pub(crate) fn told(&mut self, time: Duration) -> bool {
        let changed = async { timeout(time, self.watch.changed()).await.is_ok() };
        self.runtime.block_on(changed)
    }

    /// What was done since is told once, and the policy says something else.
    #[track_caller]
    pub(crate) fn sees(&mut self, what: &str, change: impl FnOnce()) {
        let before = fingerprint(&self.paths);
        change();
        assert!(self.told(DEADLINE), "not seen: {what}");
        assert_ne!(before, fingerprint(&self.paths), "the same after: {what}");
    }

    /// What was done makes no reload: it is not told, or the policy says what it said.
    #[track_caller]
    pub(crate) fn ignores(&mut self, what: &str, change: impl FnOnce()) {
        let before = fingerprint(&self.paths);
        change();
        self.told(SETTLE * 3);
        assert_eq!(before, fingerprint(&self.paths), "other after: {what}");
    }

    /// What was done does not even wake the daemon's reader.
    #[track_caller]
    pub(crate) fn sleeps_through(&mut self, what: &str, change: impl FnOnce()) {
        change();
        assert!(!self.told(SETTLE * 3), "told: {what}");
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

/// As editors and deployments do it: another file under the same name.
pub(crate) fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}
