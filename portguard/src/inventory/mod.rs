//! Existing sockets: which processes already hold protected ports, and what the policy decides for each.
//!
//! No hook sees them. They are listed as they are now, in every network namespace of the policy's scope. Only
//! [`Holder::destroy`] changes anything.

mod close;
mod diag;
mod display;
mod error;
mod holder;
mod netns;
mod processes;

pub use close::{Closed, DestroyError};
pub use diag::State;
pub(crate) use diag::socket_owner;
pub use error::InventoryError;
pub use holder::{By, Holder, Identity};
pub use processes::Process;

use crate::cgroup_mount::cgroup_mount;
use crate::events::cgroup_paths::CgroupPaths;
use diag::Socket;
use holder::Evaluator;
use netns::Netns;
use portguard_policy::compile::Tables;
use portguard_policy::policy::{Policy, Scope};
use processes::Owners;
use std::collections::HashSet;
use std::sync::Arc;

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
    let owners = Owners::find(&inodes)?;
    let cgroups = CgroupPaths::new(&cgroup_mount().unwrap_or_default());
    let mut evaluator = Evaluator::new(policy, tables, host_netns, cgroups);
    let mut holders = Vec::new();
    for (netns, socket) in found {
        let processes = owners.of(socket.inode);
        if processes.is_empty() {
            // Its process may have ended since it was listed.
            let left = netns.sockets(|port| port == socket.id.source_port)?;
            if !left.iter().any(|other| other.cookie() == socket.cookie()) {
                continue;
            }
            if owners.hidden > 0 {
                return Err(hidden(&socket, owners.hidden));
            }
        }
        holders.extend(evaluator.holder(netns, socket, processes));
    }
    holders.sort_by_key(Holder::order);
    Ok(Inventory {
        holders,
        hidden: candidates.hidden,
    })
}

fn hidden(socket: &Socket, processes: usize) -> InventoryError {
    let (protocol, port) = (socket.protocol().as_str(), socket.id.source_port);
    InventoryError::Rights {
        what: format!(
            "cannot see which process holds {protocol}/{port}: {processes} processes hide their open files"
        ),
        capability: "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    }
}
