//! A bind that a suggested policy must allow.

use portguard_common::Protocol;
use std::net::IpAddr;

/// The owner of a bind, beside its user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A systemd unit.
    Unit(String),
    /// A cgroup, by its path.
    Cgroup(String),
    /// The user alone, in any cgroup.
    User,
    /// The same, since no rule can have the name of the cgroup.
    UserOfUnnamed,
}

impl Who {
    /// Whether the rule names the user alone.
    pub(super) const fn is_user(&self) -> bool {
        matches!(self, Self::User | Self::UserOfUnnamed)
    }
}

/// A bind that must be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Its owner.
    pub who: Who,
    /// Real and effective uid.
    pub uids: [u32; 2],
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// The address and the path of the cgroup, where they were seen; rules are as wide as [`Self::who`].
    pub address: Option<IpAddr>,
    /// See [`Self::address`].
    pub cgroup: Option<String>,
    /// How often it was recorded; 0 where it was not counted.
    pub count: u64,
    /// Where the demand comes from: a program, a file.
    pub from: String,
}
