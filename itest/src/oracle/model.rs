//! The oracle's types: policies, rules, binds and decisions.

use super::fields::Net;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// A rule's action, and the verdict of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    Kernel,
}

impl Action {
    /// The name in policies and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Kernel => "kernel",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proto {
    Tcp,
    Udp,
    Sctp,
    Dccp,
}

impl Proto {
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp];

    /// The name in policies and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
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
    All,
    Deny,
    /// None.
    None,
}

impl Logged {
    /// The name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Deny => "deny",
            Self::None => "none",
        }
    }
}

/// First and last of a range, both included.
pub type Span<T> = (T, T);

/// The components of a cgroup path below the root.
pub type Path = Vec<String>;

/// A rule; an absent field matches everything.
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
    /// `errno:` of a `deny` rule.
    pub errno: Option<&'static str>,
}

/// The errno of a denial whose rule does not say one.
pub const EACCES: &str = "EACCES";

impl ModelRule {
    /// A rule that matches every bind.
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
            errno: None,
        }
    }
}

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

/// The address of binds where it does not matter: one of the loopback network that hardly any server uses.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// A bind, as far as rules can match it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OracleBind {
    pub port: u16,
    pub protocol: Proto,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Real gid.
    pub gid: u32,
    /// Effective gid.
    pub egid: u32,
    /// Supplementary gids.
    pub groups: Vec<u32>,
    /// Uid and gid of the owners of its user namespaces.
    pub owners: Vec<(u32, u32)>,
    pub cgroup: Path,
    pub address: IpAddr,
    /// `IPV6_V6ONLY` of the socket.
    pub v6only: bool,
}

/// What cannot be read of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The path of its cgroup.
    pub cgroup: bool,
    /// Its groups, and the owners of its user namespaces.
    pub groups: bool,
}

/// The oracle's decision on a bind of a protected port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OracleDecision<'a> {
    pub verdict: Action,
    /// The deciding rule; `None` for the default.
    pub rule: Option<&'a str>,
    pub report: bool,
    /// Neither the policy nor the rule is in audit mode.
    pub enforced: bool,
    /// The name of the errno of a denial.
    pub errno: &'static str,
}

impl OracleBind {
    /// TCP by a user in a cgroup.
    #[must_use]
    pub fn tcp(port: u16, uid: u32, cgroup: Path) -> Self {
        Self {
            port,
            protocol: Proto::Tcp,
            uid,
            euid: uid,
            gid: uid,
            egid: uid,
            groups: Vec::new(),
            owners: Vec::new(),
            cgroup,
            address: ADDRESS.into(),
            v6only: false,
        }
    }

    /// Whether the analysis is about such callers: in the initial user namespace, and not in a setgid program.
    #[must_use]
    pub fn is_analysed(&self) -> bool {
        self.owners.is_empty() && self.gid == self.egid
    }
}
