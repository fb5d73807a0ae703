//! The command line's choices for a run, and the result of one.

use crate::control::Server;
use crate::events::sinks::Sinks;
use crate::kernel::Counts;
use std::net::SocketAddr;
use std::time::Duration;

/// The command line's choices for a run.
pub struct Options {
    /// Where decisions go.
    pub sinks: Sinks,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Whether sockets bound earlier are closed where the policy denies them.
    pub enforce_existing: bool,
    /// Whether equal decisions of a second are aggregated into one event.
    pub fold: bool,
    /// Whether changed policy files are reloaded.
    pub watch: bool,
    /// Interval between hook health checks.
    pub check_every: Duration,
    /// The socket; `None` where the system has no place for it.
    pub server: Option<Server>,
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
