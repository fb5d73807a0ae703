//! The protocol of the socket: one JSON object a line, each way.

use crate::status::Status;
use portguard_common::Verdict;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// A client's request, its first and only line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Send the [`Status`].
    Status,
    /// Reload the policy from its files.
    Reload,
    /// End enforcement and the daemon.
    Detach,
    /// Send decisions from now on, a `DecisionEvent` a line, until the client closes.
    Monitor {
        /// The decisions to send.
        #[serde(default)]
        filter: Filter,
    },
}

/// The decisions that a monitor receives. An empty field matches all; within a field any entry may match.
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
    /// Names of systemd system units, as `units` of a rule means them.
    pub units: Vec<String>,
}

/// The daemon's reply to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    /// The status.
    Status(Box<Status>),
    /// A policy came into force.
    Reloaded {
        /// Its hash, as in events.
        policy: String,
        /// Warnings, as `check` prints them.
        warnings: String,
        /// What it changes, in a line; empty from a daemon that does not say.
        #[serde(default)]
        changes: String,
    },
    /// Every decision from here on that matches the filter is sent, or counted as dropped.
    Monitoring,
    /// The hooks are detached, the pins are removed, and the daemon ends.
    Detached,
    /// The request failed, and changed nothing.
    Failed {
        /// The reason, as `check` prints it.
        error: String,
    },
}

/// Sent to a monitor in place of the decisions that it was too slow to read. They are counted before the filter,
/// which was not applied to them.
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
