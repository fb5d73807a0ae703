//! What a guest runs, and its result.

use crate::build::Profile;
use std::path::PathBuf;
use std::time::Duration;

/// The default time limit of a guest: many times what the longest takes, for machines that are busy with more.
const LIMIT: Duration = Duration::from_secs(2400);

/// A guest to boot.
pub(crate) struct GuestSpec {
    /// The series of its kernel.
    pub(crate) series: String,
    /// Distinguishes its files from those of other guests with this kernel.
    pub(crate) name: String,
    /// The build of the programs in it.
    pub(crate) profile: Profile,
    /// The command it runs.
    pub(crate) arguments: Vec<String>,
    /// Further files and directories, and their paths in the guest.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether BPF is among its LSMs.
    pub(crate) bpf_lsm: bool,
    /// Whether systemd is its first process and starts portguard by the shipped unit.
    pub(crate) systemd: bool,
    /// A disk with its file system, which is left as it was at the end; the guest may reboot then.
    pub(crate) disk: Option<PathBuf>,
    /// Whether its clock counts instructions, on one CPU.
    pub(crate) counting: bool,
    /// Whether to print the console while it runs.
    pub(crate) live: bool,
    /// The time limit.
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
            profile: Profile::Release,
            arguments: all,
            files: Vec::new(),
            bpf_lsm: true,
            systemd: false,
            disk: None,
            counting: false,
            live: false,
            limit: LIMIT,
        }
    }

    /// Adds arguments that portguard-itest passes on.
    pub(crate) fn after_dashes(&mut self, arguments: &[String]) {
        if !arguments.is_empty() {
            self.arguments.push("--".to_owned());
            self.arguments.extend_from_slice(arguments);
        }
    }
}

/// The result of a guest.
pub(crate) struct GuestResult {
    /// The output of its console.
    pub(crate) output: String,
    /// Why it failed.
    pub(crate) failure: Option<String>,
    /// The time it took.
    pub(crate) seconds: f64,
}
