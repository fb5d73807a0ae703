//! Existing sockets: which processes already hold protected ports, and what the policy decides for each.
//!
//! No hook sees them. They are listed as they are now, in every network namespace of the policy's scope. Only
//! [`Holder::destroy`] changes anything.

mod close;
mod diag;
mod display;
mod error;
mod evaluator;
mod holder;
mod netns;
mod places;
mod processes;

pub use close::{Closed, DestroyError};
pub use diag::State;
pub(crate) use diag::socket_owner;
pub use error::InventoryError;
pub use holder::{By, Doubt, Holder, Identity};
pub use places::{Place, PlaceKind};
pub use processes::Process;

use crate::cgroup_mount::cgroup_mount;
use crate::events::cgroup_paths::CgroupPaths;
use diag::Socket;
use evaluator::Evaluator;
use netns::Netns;
use portguard_policy::compile::Tables;
use portguard_policy::policy::{Policy, Scope};
use processes::Owners;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Values of /proc's option `hidepid` with which it does not list the processes of others.
const HIDING: [&str; 4] = ["2", "invisible", "4", "ptraceable"];

/// The sockets that hold protected ports.
#[derive(Debug)]
pub struct Inventory {
    /// Each socket: the host's first, then by namespace, port, protocol and address.
    pub holders: Vec<Holder>,
    /// Processes whose network namespace a sandbox hides: sockets in there are not listed.
    pub hidden: usize,
}

impl Inventory {
    /// The sockets that the policy denies to their holders.
    pub fn violations(&self) -> impl Iterator<Item = &Holder> {
        self.holders.iter().filter(|holder| holder.violation)
    }
}

/// Finds the holders of the ports that a policy protects, in the network namespaces of its scope.
///
/// `host_netns` is the inode number of the namespace that `scope: host` means. This blocks: it reads /proc and enters
/// namespaces in threads of its own.
pub fn take(
    policy: &Policy,
    tables: &Tables,
    host_netns: u32,
) -> Result<Inventory, InventoryError> {
    let protected = |port: u16| policy.protect.iter().any(|range| range.contains(&port));
    let candidates = match policy.scope {
        Scope::Host => netns::host(host_netns),
        Scope::All => netns::all()?,
    };
    let mut found = Vec::new();
    for (inode, paths) in candidates.files {
        match Netns::open(inode, &paths) {
            Some(netns) => {
                let sockets = netns.sockets(protected)?;
                let netns = Arc::new(netns);
                found.extend(sockets.into_iter().map(|socket| (netns.clone(), socket)));
            }
            None if policy.scope == Scope::Host => return Err(InventoryError::NoHost(inode)),
            // It was removed meanwhile.
            None => {}
        }
    }
    let inodes: HashSet<u64> = found.iter().map(|(_, socket)| socket.inode).collect();
    let mut owners = Owners::find(&inodes)?;
    let elsewhere = without_process(&found, &owners)?;
    if !elsewhere.is_empty() {
        owners.find_elsewhere(&elsewhere)?;
    }
    let cgroups = CgroupPaths::new(&cgroup_mount().unwrap_or_default());
    let mut evaluator = Evaluator::new(policy, tables, host_netns, cgroups);
    let mut holders = Vec::new();
    for (netns, socket) in found {
        let processes = owners.of(socket.inode);
        let mut places = Vec::new();
        if processes.is_empty() {
            if !elsewhere.contains(&socket.inode) {
                continue;
            }
            if owners.hidden > 0 || proc_hides_processes() {
                return Err(hidden(&socket, owners.hidden));
            }
            places.clone_from(&owners.places);
        }
        holders.extend(evaluator.holder(netns, socket, processes, places));
    }
    holders.sort_by_key(Holder::order);
    Ok(Inventory {
        holders,
        hidden: candidates.hidden,
    })
}

/// Inodes of the sockets that no process has in its table of files, and that are still there: a process may have ended
/// since they were listed.
fn without_process(
    found: &[(Arc<Netns>, Socket)],
    owners: &Owners,
) -> Result<HashSet<u64>, InventoryError> {
    let mut inodes = HashSet::new();
    for (netns, socket) in found {
        if owners.has(socket.inode) {
            continue;
        }
        let left = netns.sockets(|port| port == socket.id.source_port)?;
        if left.iter().any(|other| other.cookie() == socket.cookie()) {
            inodes.insert(socket.inode);
        }
    }
    Ok(inodes)
}

/// Whether /proc does not even list the processes of others (`hidepid=2`, `hidepid=4`), and shows this one only some.
fn proc_hides_processes() -> bool {
    let mounts = procfs::process::Process::myself().and_then(|own| own.mountinfo());
    let mut mounts = mounts
        .map_or_else(|_| Vec::new(), |mounts| mounts.0)
        .into_iter();
    let hides = mounts.any(|mount| {
        let options = (mount.super_options.get("hidepid").cloned().flatten()).unwrap_or_default();
        mount.mount_point == Path::new("/proc") && HIDING.contains(&options.as_str())
    });
    hides && !netns::can_ptrace()
}

fn hidden(socket: &Socket, processes: usize) -> InventoryError {
    let (protocol, port) = (socket.protocol().as_str(), socket.id.source_port);
    let why = match processes {
        0 => "/proc lists only some processes (hidepid)".to_owned(),
        processes => format!("{processes} processes hide their open files"),
    };
    InventoryError::Rights {
        what: format!("cannot see which process holds {protocol}/{port}: {why}"),
        capability: "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventory_says_why_it_cannot_see_a_holder() {
        let socket = diag::tests::listener("127.0.0.1".parse().unwrap(), 80, 0);
        let text = hidden(&socket, 3).to_string();
        assert!(
            text.starts_with(
                "cannot see which process holds tcp/80: 3 processes hide their open files: run as"
            ),
            "{text}"
        );
        let text = hidden(&socket, 0).to_string();
        assert!(
            text.contains("tcp/80: /proc lists only some processes (hidepid): run as root"),
            "{text}"
        );
    }
}
