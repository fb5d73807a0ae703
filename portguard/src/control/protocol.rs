//! What goes over the socket: one JSON object a line, each way.

use crate::status::Status;
use portguard_common::Verdict;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// What a client asks for, in its first and only line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// A [`Status`].
    Status,
    /// The policy as its files are now, put in force.
    Reload,
    /// The end of enforcement, and of the daemon.
    Detach,
    /// Decisions from now on, a line each (`event::DecisionEvent`), until the client goes.
    Monitor {
        /// Which.
        #[serde(default)]
        filter: Filter,
    },
}

/// Which decisions a monitor wants: a field that is empty wants all; within a field any may match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Verdicts.
    pub verdicts: Vec<Verdict>,
    /// Real uids.
    pub uids: Vec<u32>,
    /// Ports, first and last.
    pub ports: Vec<(u16, u16)>,
    /// Names of rules; the empty name is the default.
    pub rules: Vec<String>,
    /// Names of units: the last component of the cgroup's path that ends in `.service`, `.socket` or `.scope`.
    pub units: Vec<String>,
}

/// What the daemon answers to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    /// How it stands.
    Status(Box<Status>),
    /// A policy came into force.
    Reloaded {
        /// Its hash, as in events.
        policy: String,
        /// Warnings, as `check` prints them.
        warnings: String,
    },
    /// Every decision from here on comes, if the filter wants it, or is counted as dropped.
    Monitoring,
    /// The hooks are free, nothing is pinned any more, and the daemon ends.
    Detached,
    /// Nothing was changed.
    Failed {
        /// Why, as `check` prints it.
        error: String,
    },
}

/// Said to a monitor in place of the decisions that it was too slow to read. They are counted before
/// the filter: what was never looked at cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many.
    pub dropped: u64,
}

/// A request that waits for the daemon's loop.
pub struct PendingRequest {
    /// The request: never `monitor`, which the server answers.
    pub request: Request,
    /// Where the reply goes.
    pub reply: oneshot::Sender<Reply>,
}
