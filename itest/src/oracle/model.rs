//! What the oracle speaks of: policies, rules and binds, in its own words.

use super::Net;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A verdict, which is also a rule's action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// May bind, with or without the capability.
    Allow,
    /// May not bind.
    Deny,
    /// The kernel's own rule decides.
    Kernel,
}

impl Action {
    /// The word in policies and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Kernel => "kernel",
        }
    }
}

/// A protocol that rules can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// DCCP.
    Dccp,
}

impl Proto {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp];

    /// The word in policies and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
        }
    }
}

/// Which decisions are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// Every decision.
    All,
    /// Denials only.
    Deny,
    /// None.
    None,
}

impl Logged {
    /// The word in policies.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Deny => "deny",
            Self::None => "none",
        }
    }
}

/// First and last of a range, both in it.
pub type Span<T> = (T, T);

/// Components of a cgroup path below the root.
pub type Path = Vec<String>;

/// One rule; an absent field matches everything.
#[derive(Clone, Debug)]
pub struct ModelRule {
    /// `name:`
    pub name: String,
    /// `action:`
    pub action: Action,
    /// `ports:`
    pub ports: Option<Vec<Span<u16>>>,
    /// `protocols:`
    pub protocols: Option<Vec<Proto>>,
    /// `users:`
    pub users: Option<Vec<Span<u32>>>,
    /// `groups:`
    pub groups: Option<Vec<Span<u32>>>,
    /// `cgroups:`, patterns by their components.
    pub cgroups: Option<Vec<Path>>,
    /// `units:`
    pub units: Option<Vec<String>>,
    /// `addresses:`
    pub addresses: Option<Vec<Net>>,
    /// `mode: audit`
    pub audit: bool,
    /// `log:`
    pub log: Option<Logged>,
}

impl ModelRule {
    /// A rule that names nothing.
    #[must_use]
    pub const fn new(name: String, action: Action) -> Self {
        Self {
            name,
            action,
            ports: None,
            protocols: None,
            users: None,
            groups: None,
            cgroups: None,
            units: None,
            addresses: None,
            audit: false,
            log: None,
        }
    }
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Model {
    /// `mode:` is `enforce` (else `audit`).
    pub enforce: bool,
    /// `default:`, kernel or deny.
    pub default: Action,
    /// `protect:`
    pub protect: Vec<Span<u16>>,
    /// `log:`
    pub log: Logged,
    /// `rules:`
    pub rules: Vec<ModelRule>,
}

/// A bind, as much of it as rules can match.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OracleBind {
    /// Port.
    pub port: u16,
    /// Protocol of the socket.
    pub protocol: Proto,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Real, effective and supplementary gids.
    pub gids: Vec<u32>,
    /// The caller's cgroup.
    pub cgroup: Path,
    /// The address.
    pub address: IpAddr,
    /// `IPV6_V6ONLY` of the socket.
    pub v6only: bool,
}

/// What cannot be read of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The path of its cgroup.
    pub cgroup: bool,
    /// Its groups.
    pub groups: bool,
}

/// What the oracle says of a bind of a protected port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The verdict.
    pub verdict: Action,
    /// The deciding rule, `None` for the default.
    pub rule: Option<&'a str>,
    /// Whether it is reported.
    pub report: bool,
    /// Whether it is carried out: neither the policy nor the rule is in audit mode.
    pub enforced: bool,
}
