//! Processes that listen below port 1024 now.

use super::root::{HostError, read};
use super::survey::PRIVILEGED;
use crate::suggest::demand::Demand;
use crate::suggest::units::owner_of;
use portguard_common::Protocol;
use procfs::net::{TcpNetEntries, TcpState, UdpNetEntries};
use procfs::process::{FDTarget, Process, all_processes_with_root};
use procfs::{FromBufReadSI as _, current_system_info};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

/// A listening socket, and the program that holds it.
pub(super) struct Listener {
    pub(super) demand: Demand,
    /// Path of the program on the host.
    pub(super) exe: Option<String>,
}

/// A socket.
#[derive(Clone, Copy)]
struct Held {
    address: SocketAddr,
    protocol: Protocol,
    /// The uid that made it.
    uid: u32,
}

/// All listening sockets that a process holds.
pub(super) fn find(root: &Path) -> Result<Vec<Listener>, HostError> {
    let proc = root.join("proc");
    let sockets = sockets(&proc)?;
    let mut listeners = Vec::new();
    for process in all_processes_with_root(&proc)
        .into_iter()
        .flatten()
        .flatten()
    {
        // A process may end meanwhile.
        let Ok(descriptors) = process.fd() else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            if let FDTarget::Socket(inode) = descriptor.target
                && let Some(held) = sockets.get(&inode)
            {
                listeners.extend(listener(&process, *held));
            }
        }
    }
    listeners.sort_by(|a, b| (a.demand.port, &a.demand.from).cmp(&(b.demand.port, &b.demand.from)));
    // Workers share the socket of their parent.
    listeners.dedup_by(|a, b| a.demand == b.demand);
    Ok(listeners)
}

fn listener(process: &Process, held: Held) -> Option<Listener> {
    let status = process.status().ok()?;
    let groups = process.cgroups().ok();
    let mut groups = groups.iter().flat_map(|groups| groups.0.iter());
    let path = groups
        .find(|group| group.hierarchy == 0)
        .map(|group| group.pathname.clone());
    let exe = process.exe().ok().map(|exe| exe.display().to_string());
    let name = exe.clone().unwrap_or_else(|| status.name.clone());
    Some(Listener {
        demand: Demand {
            who: owner_of(path.as_deref()),
            // A daemon that has changed its user since binds as the first one again at its next start.
            uids: if status.euid == held.uid {
                [status.ruid, status.euid]
            } else {
                [held.uid; 2]
            },
            port: held.address.port(),
            protocol: held.protocol,
            address: Some(held.address.ip()),
            cgroup: path,
            count: 0,
            from: format!("listens now: {name}"),
        },
        exe,
    })
}

/// Sockets that listen on a privileged port, by inode.
fn sockets(proc: &Path) -> Result<HashMap<u64, Held>, HostError> {
    let mut sockets = HashMap::new();
    let mut add = |protocol, address: SocketAddr, uid, inode| {
        if (1..=PRIVILEGED).contains(&address.port()) {
            let held = Held {
                address,
                protocol,
                uid,
            };
            sockets.insert(inode, held);
        }
    };
    for file in ["net/tcp", "net/tcp6"] {
        if let Some(text) = read(&proc.join(file))? {
            let entries = TcpNetEntries::from_buf_read(text.as_bytes(), current_system_info())
                .map(|all| all.0);
            for entry in entries.into_iter().flatten() {
                if entry.state == TcpState::Listen {
                    add(Protocol::Tcp, entry.local_address, entry.uid, entry.inode);
                }
            }
        }
    }
    for file in ["net/udp", "net/udp6"] {
        if let Some(text) = read(&proc.join(file))? {
            let entries = UdpNetEntries::from_buf_read(text.as_bytes(), current_system_info())
                .map(|all| all.0);
            for entry in entries.into_iter().flatten() {
                add(Protocol::Udp, entry.local_address, entry.uid, entry.inode);
            }
        }
    }
    Ok(sockets)
}
