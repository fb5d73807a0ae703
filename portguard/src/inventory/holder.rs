//! A socket with the processes that hold it, and what the policy decides for them.

use super::diag::{Socket, State};
use super::netns::Netns;
use super::places::Place;
use super::processes::Process;
use portguard_common::{Family, Protocol, Verdict};
use serde::{Serialize, Serializer};
use std::net::IpAddr;
use std::sync::Arc;

/// What holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Processes.
    Process,
    /// No process has it open, and descriptors wait where it may be: it is in flight. One of root may as well be the
    /// kernel's own.
    InFlight,
    /// The kernel itself (NFS, lockd): no process has it open, it is not in flight, and its uid is root's. Never a
    /// violation.
    Kernel,
    /// No process has it open, and it is not in flight: the kernel made it for its user, as SMC does.
    Nobody,
}

impl By {
    /// What holds a socket of `uid`.
    pub(super) const fn of(processes: &[Process], places: &[Place], uid: u32) -> Self {
        match (processes.is_empty(), places.is_empty(), uid) {
            (false, ..) => Self::Process,
            (true, false, _) => Self::InFlight,
            (true, true, 0) => Self::Kernel,
            (true, true, _) => Self::Nobody,
        }
    }
}

/// Why a denial is no violation: nothing is closed on doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doubt {
    /// It may be a socket of the kernel itself, which is not decided.
    Kernel,
    /// It is unknown from which cgroup it was bound, and a rule that does not deny names cgroups or units.
    Cgroup,
    /// It is unknown which groups its binder had, and a rule that does not deny names groups.
    Groups,
}

/// The caller for which the policy was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Real uid.
    pub uid: u32,
    /// Its name, escaped, where it has one.
    pub user: Option<String>,
    /// Effective uid.
    pub euid: u32,
    /// Path of the cgroup, escaped.
    pub cgroup: String,
}

/// A socket that holds a protected port. The fields are a contract: names and meanings only ever get company.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// Port.
    pub port: u16,
    /// Protocol.
    #[serde(serialize_with = "protocol_name")]
    pub protocol: Protocol,
    /// Family of the socket.
    #[serde(serialize_with = "family_name")]
    pub family: Family,
    /// The address bound; a v4-mapped one as IPv4.
    pub address: IpAddr,
    /// Whether an inet6 socket also accepts IPv4; null where that is unknown, and for inet.
    pub dual_stack: Option<bool>,
    /// `listen`, `bound` or `connected`.
    pub state: State,
    /// The uid of the socket: that of its creator.
    pub uid: u32,
    /// Its name, escaped, where it has one.
    pub user: Option<String>,
    /// Path of the cgroup in which it was made, escaped; null where that is gone, or not reported (before Linux 5.9).
    pub made_in: Option<String>,
    /// Inode number of the socket.
    pub inode: u64,
    /// Its cookie, which is unique in its network namespace, over time too.
    pub cookie: u64,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Whether that is the host's namespace.
    pub host_netns: bool,
    /// What holds it.
    pub by: By,
    /// The processes that have it open.
    pub processes: Vec<Process>,
    /// Where no process has it open: the places that hold descriptors in flight.
    pub may_be_in: Vec<Place>,
    /// The unit of the process that holds it, else that in which it was made.
    pub unit: Option<String>,
    /// What the policy decides for this bind if it were made now.
    #[serde(serialize_with = "verdict_name")]
    pub verdict: Verdict,
    /// The deciding rule; null for the default, and for sockets of the kernel.
    pub rule: Option<String>,
    /// The caller that was evaluated; null for sockets of the kernel.
    #[serde(rename = "caller")]
    pub evaluated: Option<Identity>,
    /// Whether the verdict would be carried out: neither the policy nor the rule is in audit mode.
    pub enforced: bool,
    /// It is denied without a doubt, and not by a rule in audit mode.
    pub violation: bool,
    /// Why a denial is no violation.
    pub doubt: Option<Doubt>,
    #[serde(skip)]
    pub(super) socket: Socket,
    #[serde(skip)]
    pub(super) kept: Arc<Netns>,
}

impl Doubt {
    /// It, after a verdict.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Kernel => "not closed: it may be the kernel's",
            Self::Cgroup => "not closed: its cgroup is unknown",
            Self::Groups => "not closed: its groups are unknown",
        }
    }
}

impl Holder {
    /// The sort key of an inventory.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let Self {
            netns,
            port,
            protocol,
            address,
            cookie,
            ..
        } = *self;
        (
            !self.host_netns,
            netns,
            port,
            protocol.as_str(),
            address,
            cookie,
        )
    }
}

fn protocol_name<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(protocol.as_str())
}

fn family_name<S: Serializer>(family: &Family, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match family {
        Family::Inet => "inet",
        Family::Inet6 => "inet6",
    })
}

fn verdict_name<S: Serializer>(verdict: &Verdict, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(verdict.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::places::PlaceKind;

    #[test]
    fn by_is_the_kernel_where_nothing_is_in_flight_and_the_uid_is_roots() {
        let place = Place {
            pid: 7,
            comm: "x".into(),
            what: PlaceKind::UnixQueue,
            descriptors: 1,
        };
        assert_eq!(By::of(&[], &[], 0), By::Kernel);
        assert_eq!(By::of(&[], &[], 33), By::Nobody);
        for uid in [0, 33] {
            assert_eq!(By::of(&[], std::slice::from_ref(&place), uid), By::InFlight);
        }
    }
}
