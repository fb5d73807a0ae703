//! What a guest is to run, and what became of it.

use std::path::PathBuf;
use std::time::Duration;

/// How long a guest may take, unless it is to run for longer.
const LIMIT: Duration = Duration::from_secs(900);

/// A guest to boot.
pub(crate) struct GuestSpec {
    /// Its kernel.
    pub(crate) series: String,
    /// Tells this guest's files from those of others with the same kernel.
    pub(crate) name: String,
    /// What it runs.
    pub(crate) arguments: Vec<String>,
    /// Further files and directories, and where they go.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether its LSMs are to include BPF.
    pub(crate) bpf_lsm: bool,
    /// Whether systemd is its first process, and starts portguard by the shipped unit.
    pub(crate) systemd: bool,
    /// Whether its clock is to count instructions, on one CPU.
    pub(crate) counting: bool,
    /// Whether to print the console as it comes.
    pub(crate) live: bool,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl GuestSpec {
    /// A guest that runs portguard-itest with these arguments.
    pub(crate) fn new(series: &str, name: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["/bin/portguard-itest".to_owned()];
        all.extend(arguments.iter().map(ToString::to_string));
        Self {
            series: series.to_owned(),
            name: name.to_owned(),
            arguments: all,
            files: Vec::new(),
            bpf_lsm: true,
            systemd: false,
            counting: false,
            live: false,
            limit: LIMIT,
        }
    }

    /// Adds arguments that portguard-itest hands on.
    pub(crate) fn after_dashes(&mut self, arguments: &[String]) {
        if !arguments.is_empty() {
            self.arguments.push("--".to_owned());
            self.arguments.extend_from_slice(arguments);
        }
    }
}

/// What became of a guest.
pub(crate) struct GuestResult {
    /// All that came over its console.
    pub(crate) output: String,
    /// Why it counts as failed.
    pub(crate) failure: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
}
