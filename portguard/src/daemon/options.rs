//! The command line's choices for a run, and the result of one.

use crate::control::Server;
use crate::events::sinks::Sinks;
use crate::kernel::Counts;
use crate::metrics::{MetricsAddress, MetricsRules};
use crate::policy_store::PolicyStore;
use crate::sandbox::Sandbox;
use std::time::Duration;

/// The command line's choices for a run.
pub struct Options {
    /// Where decisions go.
    pub sinks: Sinks,
    /// Where metrics are served.
    pub metrics: Option<MetricsAddress>,
    /// Of which rules they tell.
    pub metrics_rules: MetricsRules,
    /// Whose members may use a Unix socket for them.
    pub metrics_group: Option<u32>,
    /// Whether sockets bound earlier are closed where the policy denies them.
    pub enforce_existing: bool,
    /// Whether equal decisions of a second are aggregated into one event.
    pub fold: bool,
    /// Whether changed policy files are reloaded.
    pub watch: bool,
    /// Where the policy in force is kept.
    pub store: PolicyStore,
    /// Why the first policy is not that of the files.
    pub fallback: Option<Fallback>,
    /// What the daemon gives up once it is in place.
    pub sandbox: Sandbox,
    /// Interval between hook health checks.
    pub check_every: Duration,
    /// The socket; `None` where the system has no place for it.
    pub server: Option<Server>,
}

/// Why a run begins with another policy than that of its files, which are broken.
pub struct Fallback {
    /// What is enforced.
    pub kind: FallbackKind,
    /// The same in a line, for people.
    pub problem: String,
    /// What is wrong with the files, as `check` prints it.
    pub error: String,
}

/// What is enforced in place of broken files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackKind {
    /// The last policy that was in force.
    Kept,
    /// Every bind of the ports that are protected by default is denied.
    DenyProtected,
}

impl FallbackKind {
    /// The word of the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::DenyProtected => "deny-protected",
        }
    }
}

/// The result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The kernel's counters.
    pub counts: Counts,
    /// Decisions that the sinks did not write.
    pub dropped: u64,
    /// Whether the pins keep enforcing.
    pub pinned: bool,
}
