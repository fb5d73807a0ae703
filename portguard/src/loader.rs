//! Reads and compiles the policy's files, at the start and at each reload.

use crate::status::Description;
use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::compile::{Tables, compile};
use portguard_policy::policy::{self, Fingerprint, Mode, Policy, PolicyFiles, SystemNames};
use std::path::PathBuf;

/// The files and directories, and what the command line overrides.
#[derive(Clone, Debug)]
pub struct PolicyLoader {
    /// Policy files and directories of them.
    pub paths: Vec<PathBuf>,
    /// `--mode`
    pub mode: Option<Mode>,
}

/// A policy as read from its files.
pub struct CompiledPolicy {
    /// The policy.
    pub policy: Policy,
    /// Its tables.
    pub tables: Tables,
    /// The description kept beside its tables.
    pub description: Description,
    /// Warnings, as `check` prints them.
    pub warnings: String,
    /// The contents of the files, to detect a change.
    pub fingerprint: Fingerprint,
}

impl PolicyLoader {
    /// Reads and compiles the policy.
    ///
    /// # Errors
    /// What is wrong with it, as `check` prints it.
    pub fn read(&self, color: bool) -> Result<CompiledPolicy, String> {
        let sources = PolicyFiles::read(&self.paths);
        let fingerprint = sources.fingerprint();
        let loaded = policy::load_sources(sources, &SystemNames::LOCAL);
        let mut loaded = loaded.map_err(|problems| problems.render(color))?;
        // The daemon logs what this host does not support at its start.
        lint(&mut loaded, &Host::ANY);
        let mut policy = loaded.policy;
        if let Some(mode) = self.mode {
            policy.mode = mode;
        }
        let tables = compile(&policy).map_err(|error| format!("{error}\n"))?;
        Ok(CompiledPolicy {
            description: Description::new(&policy, &tables, &self.paths),
            policy,
            tables,
            warnings: loaded.warnings.render(color),
            fingerprint,
        })
    }
}

/// Returns free memory to the system. The allocator would keep what a start or a reload needed until the next
/// one, which may be months away.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches only memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}
