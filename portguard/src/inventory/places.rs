//! Where a socket is that no process has in its table of files: in that of a thread, in an `io_uring`, or in flight.

use super::processes::{Owners, inode_of, sockets_of};
use portguard_policy::escape::escape;
use serde::Serialize;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

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
struct Contents {
    /// Sockets by inode.
    sockets: Vec<u64>,
    unnamed: Option<(PlaceKind, u32)>,
}

impl Owners {
    /// Looks in a process for sockets with these inodes that are not in its table of files.
    pub(super) fn search(&mut self, pid: u32, process: &Path, inodes: &HashSet<u64>) {
        let own = descriptors(process);
        for task in tasks(process) {
            let numbers = descriptors(&task);
            let is_first = task.file_name() == process.file_name();
            // It shares the table of its process, as nearly all threads do.
            if !is_first && numbers == own {
                continue;
            }
            for inode in sockets_of(&task).iter().flatten() {
                self.add(*inode, inodes, pid, process);
            }
            for number in numbers {
                let found = contents_of(&task, &number);
                for inode in found.sockets {
                    self.add(inode, inodes, pid, process);
                }
                if let Some((what, descriptors)) = found.unnamed {
                    let comm = fs::read(process.join("comm")).unwrap_or_default();
                    self.places.push(Place {
                        pid,
                        comm: escape(comm.strip_suffix(b"\n").unwrap_or(&comm)),
                        what,
                        descriptors,
                    });
                }
            }
        }
    }
}

/// What a descriptor of a task says of others; nothing where it is neither a socket nor an `io_uring`, or was closed
/// meanwhile.
fn contents_of(task: &Path, number: &OsStr) -> Contents {
    let link = fs::read_link(task.join("fd").join(number)).unwrap_or_default();
    let link = link.to_string_lossy();
    if !link.starts_with("socket:[") && !link.contains("[io_uring]") {
        return Contents::default();
    }
    let text = fs::read_to_string(task.join("fdinfo").join(number));
    contents(&text.unwrap_or_default())
}

/// The directories of a process's threads.
fn tasks(process: &Path) -> Vec<PathBuf> {
    let tasks = fs::read_dir(process.join("task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks.map(|task| task.path()).collect()
}

/// The numbers of a task's descriptors.
fn descriptors(task: &Path) -> HashSet<OsString> {
    let entries = fs::read_dir(task.join("fd"));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
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
