//! A recorded decision event as far as it is known, whatever it was read from.

use serde::Deserialize;
use std::net::IpAddr;

/// What of a decision event describes the bind and its decision. A field that is null or missing is not known.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Recorded {
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) uid: u32,
    pub(super) euid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) egid: Option<u32>,
    pub(super) userns_owner: Option<u32>,
    pub(super) user: Option<String>,
    pub(super) cgroup: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) errno: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) comm: Option<String>,
    pub(super) exe: Option<String>,
    pub(super) verdict: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) policy: Option<String>,
}
