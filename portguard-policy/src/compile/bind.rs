//! A bind to be decided in userspace.

use crate::policy::PolicyTest;
use portguard_common::Protocol;
use std::net::IpAddr;

/// The owner of a user namespace: who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Effective uid.
    pub uid: u32,
    /// Effective gid, where it is known.
    pub gid: Option<u32>,
}

/// The real and the effective gid of a caller, where they differ: as in a program with the setgid bit.
///
/// A `deny` rule takes either of them, an `allow` or `kernel` rule takes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setgid {
    /// Real gid.
    pub gid: u32,
    /// Effective gid.
    pub egid: u32,
}

/// The gids of a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gids {
    /// Those that every rule looks at: the supplementary gids, and the real gid where it is the effective one too. Each
    /// once.
    pub all: Vec<u32>,
    /// The others.
    pub setgid: Option<Setgid>,
}

impl Gids {
    /// Of a real, an effective and the supplementary gids.
    #[must_use]
    pub fn new(gid: u32, egid: u32, supplementary: impl IntoIterator<Item = u32>) -> Self {
        let mut gids = Self::default();
        if gid == egid {
            gids.all.push(gid);
        } else {
            gids.setgid = Some(Setgid { gid, egid });
        }
        for gid in supplementary {
            if !gids.all.contains(&gid) {
                gids.all.push(gid);
            }
        }
        gids
    }
}

/// Of groups alone, as the system gives a user: its program has no setgid bit.
impl From<Vec<u32>> for Gids {
    fn from(all: Vec<u32>) -> Self {
        Self { all, setgid: None }
    }
}

/// A bind to be decided in userspace.
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
    /// The gids of the caller: [`Gids::all`].
    pub gids: &'a [u32],
    /// Its real and effective gid where they differ: [`Gids::setgid`].
    pub setgid: Option<Setgid>,
    /// The owners of the caller's user namespaces, whom only `deny` rules look at; none in the initial one.
    pub owners: &'a [Owner],
    /// The caller's cgroup: its components below the root.
    pub cgroup: &'a [&'a str],
    /// The address; an IPv4-mapped one counts as IPv4.
    pub address: IpAddr,
    /// Whether a bind of `::` includes IPv4, because the socket is not `IPV6_V6ONLY`. It is a bind of `0.0.0.0`
    /// then, too: `allow` and `kernel` rules must match both, `deny` rules either.
    pub dual_stack: bool,
}

impl<'a> Bind<'a> {
    /// The bind of an entry of `tests:`; `cgroup` has the components of its path.
    #[must_use]
    pub fn of_test(test: &'a PolicyTest, cgroup: &'a [&'a str]) -> Self {
        Self {
            port: test.port,
            protocol: test.protocol,
            uid: test.user,
            euid: test.user,
            gids: &test.groups,
            setgid: None,
            owners: &[],
            cgroup,
            address: test.address,
            dual_stack: true,
        }
    }
}
