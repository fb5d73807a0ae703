//! The bind that userspace asks about.

use crate::policy::PolicyTest;
use portguard_common::Protocol;
use std::net::IpAddr;

/// A bind as userspace asks about it.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'a> {
    /// Port, host byte order.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Every gid that counts: real, effective and supplementary.
    pub gids: &'a [u32],
    /// The caller's cgroup: its components below the root.
    pub cgroup: &'a [&'a str],
    /// The address; an IPv4-mapped one counts as IPv4.
    pub address: IpAddr,
    /// Whether an address `::` takes IPv4 too: the socket is not `IPV6_V6ONLY`. Then it is `0.0.0.0` as well:
    /// `allow` and `kernel` rules want both named, `deny` rules take either.
    pub dual_stack: bool,
}

impl<'a> Bind<'a> {
    /// What an entry of `tests:` asks about; `cgroup` is its own, as the components of a bind are.
    #[must_use]
    pub fn of_test(test: &'a PolicyTest, cgroup: &'a [&'a str]) -> Self {
        Self {
            port: test.port,
            protocol: test.protocol,
            uid: test.user,
            euid: test.user,
            gids: &test.groups,
            cgroup,
            address: test.address,
            dual_stack: true,
        }
    }
}
