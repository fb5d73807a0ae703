//! The policy files of a command, as its arguments name them.

use portguard_policy::policy::DEFAULT_PATHS;
use std::path::PathBuf;

/// Standard input, where a command takes it for a file.
pub const STDIN: &str = "-";

/// The policy of a command: `portguard explain FILE` and `portguard explain --policy FILE` are the same.
#[derive(clap::Args)]
pub struct PolicyPaths {
    /// Policy files or directories, or - for standard input; together they form one policy
    /// [default: /usr/lib/portguard/policies and /etc/portguard/policies]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same as PATH
    #[arg(long = "policy", value_name = "PATH")]
    policy: Vec<PathBuf>,
}

impl PolicyPaths {
    /// The paths given, or those of an installed policy.
    #[must_use]
    pub fn get(&self) -> Vec<PathBuf> {
        let given: Vec<PathBuf> = self.policy.iter().chain(&self.paths).cloned().collect();
        if given.is_empty() {
            DEFAULT_PATHS.map(PathBuf::from).to_vec()
        } else {
            given
        }
    }

    /// Whether any of it comes from standard input.
    #[must_use]
    pub fn is_stdin(&self) -> bool {
        self.get().iter().any(|path| path.as_os_str() == STDIN)
    }
}
