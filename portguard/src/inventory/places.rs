//! What a descriptor of a process says of sockets in it: those in flight in a Unix socket's queue, and the files of an
//! `io_uring`.

use serde::Serialize;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// A place that holds descriptors and does not say which: a socket that no process has open may be one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The process that it belongs to.
    pub pid: u32,
    /// Its name, escaped.
    pub comm: String,
    /// What it is.
    pub what: PlaceKind,
    /// How many descriptors it holds.
    pub descriptors: u32,
}

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// The queue of a Unix socket: messages with descriptors (`SCM_RIGHTS`) that were not received yet.
    UnixQueue,
    /// The files of an `io_uring`, on a kernel that does not say which sockets they are.
    IoUring,
}

/// What a descriptor of a process says of others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Sockets by inode.
    pub(super) sockets: Vec<u64>,
    /// How many more there are, and in what.
    pub(super) unnamed: Option<(PlaceKind, u32)>,
}

/// What a descriptor of a task says of others; nothing where it is neither a socket nor an `io_uring`, or was closed
/// meanwhile.
pub(super) fn contents_of(task: &Path, number: &OsStr) -> Contents {
    let link = fs::read_link(task.join("fd").join(number)).unwrap_or_default();
    let link = link.to_string_lossy();
    if !link.starts_with("socket:[") && !link.contains("[io_uring]") {
        return Contents::default();
    }
    let text = fs::read_to_string(task.join("fdinfo").join(number));
    contents(&text.unwrap_or_default())
}

/// `socket:[INODE]`
pub(super) fn inode_of(target: &Path) -> Option<u64> {
    let inode = target.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

/// What `/proc/PID/fdinfo/N` of a Unix socket or an `io_uring` says of the descriptors in it.
fn contents(fdinfo: &str) -> Contents {
    /// Names of sockets among the files of an `io_uring`, on kernels that do not give their inodes.
    const PROTOCOLS: [&str; 6] = ["TCP", "UDP", "UDP-Lite", "SCTP", "MPTCP", "DCCP"];
    let mut found = Contents::default();
    let mut lines = fdinfo.lines();
    let mut unnamed = 0;
    while let Some(line) = lines.next() {
        if let Some(count) = line.strip_prefix("scm_fds:") {
            let count = count.trim().parse().unwrap_or(0);
            found.unnamed = (count > 0).then_some((PlaceKind::UnixQueue, count));
        } else if line.starts_with("UserFiles:") {
            let files = lines.by_ref().map_while(|line| line.split_once(": "));
            for (_, name) in files {
                match inode_of(Path::new(name)) {
                    Some(inode) => found.sockets.push(inode),
                    None if PROTOCOLS.contains(&name.trim_end_matches("v6")) => unnamed += 1,
                    None => {}
                }
            }
        }
    }
    if unnamed > 0 {
        found.unnamed = Some((PlaceKind::IoUring, unnamed));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_those_of_a_unix_sockets_queue() {
        let text = |count| format!("pos:\t0\nflags:\t02000002\nino:\t9\nscm_fds: {count}\n");
        let queue = |count| Some((PlaceKind::UnixQueue, count));
        assert_eq!(contents(&text(2)).unnamed, queue(2));
        assert_eq!(contents(&text(0)), Contents::default());
        assert_eq!(contents("pos:\t0\n"), Contents::default());
    }

    #[test]
    fn contents_are_those_of_an_io_uring() {
        let text = |name: &str| {
            format!(
                "CachedCqTail:\t0\nUserFiles:\t3\n    0: {name}\n    1: <none>\n    2: /a\nUserBufs:\t0\n"
            )
        };
        assert_eq!(contents(&text("socket:[7]")).sockets, [7]);
        let old = contents(&text("TCPv6"));
        assert_eq!(old.unnamed, Some((PlaceKind::IoUring, 1)));
        assert_eq!(contents(&text("<none>")), Contents::default());
    }
}
