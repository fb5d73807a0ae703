//! Finds the processes that have a socket open.

use super::error::InventoryError;
use super::places::{Place, contents_of, inode_of};
use crate::user_namespaces;
use portguard_policy::compile::{Gids, Owner};
use portguard_policy::escape::escape;
use portguard_policy::units;
use procfs::FromBufRead as _;
use procfs::process::Status;
use serde::{Serialize, Serializer};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A process that has a socket open.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its name, escaped.
    pub comm: String,
    /// Path of its program, escaped; null where it cannot be read.
    pub exe: Option<String>,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Its name, escaped, where it has one.
    pub user: Option<String>,
    /// Its gids, each once: the supplementary ones, the real and the effective one.
    #[serde(serialize_with = "every_gid")]
    pub gids: Gids,
    /// Path of its cgroup, escaped; null where it is not in the v2 tree.
    pub cgroup: Option<String>,
    /// The systemd unit of its cgroup.
    pub unit: Option<String>,
    /// The path as the kernel reports it.
    #[serde(skip)]
    pub(super) cgroup_path: String,
    /// The owners of its user namespaces; none where they cannot be read.
    #[serde(skip)]
    pub(super) userns_owners: Vec<Owner>,
}

/// The processes that have sockets open.
#[derive(Default)]
pub(super) struct Owners {
    by_inode: HashMap<u64, Vec<u32>>,
    known: HashMap<u32, Process>,
    /// Processes whose open files cannot be read.
    pub(super) hidden: usize,
    /// Where descriptors are in flight; known after [`Self::find_elsewhere`].
    pub(super) places: Vec<Place>,
}

impl Owners {
    /// Finds the processes of the sockets with these inodes.
    pub(super) fn find(inodes: &HashSet<u64>) -> Result<Self, InventoryError> {
        let mut owners = Self::default();
        for (pid, path) in processes()? {
            let had = match sockets_of(&path) {
                Ok(sockets) => sockets,
                Err(ErrorKind::PermissionDenied) => {
                    owners.hidden += 1;
                    continue;
                }
                // The process ended meanwhile.
                Err(_) => continue,
            };
            for inode in had {
                owners.add(inode, inodes, pid, &path);
            }
        }
        Ok(owners)
    }

    /// Finds the processes of sockets that none has in its own table of files, and where descriptors are in flight.
    pub(super) fn find_elsewhere(&mut self, inodes: &HashSet<u64>) -> Result<(), InventoryError> {
        for (pid, path) in processes()? {
            self.search(pid, &path, inodes);
        }
        Ok(())
    }

    /// Looks in a process for sockets with these inodes that are not in its table of files.
    fn search(&mut self, pid: u32, process: &Path, inodes: &HashSet<u64>) {
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

    /// A process has a socket open; nothing where the socket is not in `wanted`.
    fn add(&mut self, inode: u64, wanted: &HashSet<u64>, pid: u32, path: &Path) {
        if wanted.contains(&inode)
            && let Some(process) = Process::read(pid, path)
        {
            self.known.entry(pid).or_insert(process);
            let pids = self.by_inode.entry(inode).or_default();
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
    }

    /// Whether a process has a socket open.
    pub(super) fn has(&self, inode: u64) -> bool {
        self.by_inode.contains_key(&inode)
    }

    /// The processes that have a socket open, by pid.
    pub(super) fn of(&self, inode: u64) -> Vec<Process> {
        let pids = self.by_inode.get(&inode).into_iter().flatten();
        let known = pids.filter_map(|pid| self.known.get(pid));
        let mut processes: Vec<Process> = known.cloned().collect();
        processes.sort_by_key(|process| process.pid);
        processes
    }
}

/// The processes of /proc: their pids and directories.
fn processes() -> Result<impl Iterator<Item = (u32, PathBuf)>, InventoryError> {
    let entries = fs::read_dir("/proc").map_err(InventoryError::Proc)?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.filter_map(|path| Some((pid_of(&path)?, path))))
}

/// The pid of a directory of /proc.
pub(super) fn pid_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Inodes of the sockets that a process or a thread has open.
fn sockets_of(process: &Path) -> Result<HashSet<u64>, ErrorKind> {
    let descriptors = fs::read_dir(process.join("fd")).map_err(|error| error.kind())?;
    let targets = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(targets.filter_map(|target| inode_of(&target)).collect())
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

impl Process {
    fn read(pid: u32, directory: &Path) -> Option<Self> {
        // A process can give itself a name that is not UTF-8, which must not hide the rest.
        let status = fs::read(directory.join("status")).ok()?;
        let status = String::from_utf8_lossy(&status).into_owned();
        let status = Status::from_buf_read(status.as_bytes()).ok()?;
        let comm = fs::read(directory.join("comm")).unwrap_or_default();
        let exe: Option<PathBuf> = fs::read_link(directory.join("exe")).ok();
        let cgroup = fs::read(directory.join("cgroup")).unwrap_or_default();
        let cgroup = v2_path(&cgroup);
        Some(Self {
            userns_owners: user_namespaces::owners(pid).unwrap_or_default(),
            pid,
            comm: escape(comm.strip_suffix(b"\n").unwrap_or(&comm)),
            exe: exe.map(|path| escape(path.as_os_str().as_encoded_bytes())),
            uid: status.ruid,
            euid: status.euid,
            // The names are looked up once for all.
            user: None,
            gids: Gids::new(status.rgid, status.egid, status.groups),
            cgroup: cgroup.map(escape),
            unit: cgroup.and_then(|path| unit_of(&escape(path))),
            cgroup_path: String::from_utf8_lossy(cgroup.unwrap_or_default()).into_owned(),
        })
    }
}

/// All gids of a process in one list.
fn every_gid<S: Serializer>(gids: &Gids, serializer: S) -> Result<S::Ok, S::Error> {
    let differing = gids.setgid.iter().flat_map(|ids| [ids.egid, ids.gid]);
    let differing = differing.filter(|gid| !gids.all.contains(gid));
    serializer.collect_seq(differing.chain(gids.all.iter().copied()))
}

/// The path in the v2 tree, from /proc/PID/cgroup.
fn v2_path(text: &[u8]) -> Option<&[u8]> {
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.find_map(|line| line.strip_prefix(b"0::"))
}

/// The unit of a cgroup, as rules define it.
pub(super) fn unit_of(path: &str) -> Option<String> {
    units::unit(path).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_is_that_of_the_rules() {
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/worker";
        assert_eq!(unit_of(path).as_deref(), Some("user@1000.service"));
    }

    #[test]
    fn v2_path_is_found_on_hybrid_hosts() {
        let text = b"12:pids:/a\n1:name=systemd:/b\n0::/system.slice/\xff.service\n";
        assert_eq!(v2_path(text), Some(&b"/system.slice/\xff.service"[..]));
        assert_eq!(v2_path(b"12:pids:/a\n"), None);
    }

    #[test]
    fn owners_include_this_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(&fd_target(&socket)).unwrap();
        let owners = Owners::find(&HashSet::from([inode])).unwrap();
        let owned = owners.of(inode);
        let own = owned
            .iter()
            .find(|process| process.pid == std::process::id())
            .unwrap();
        assert_eq!(own.euid, rustix::process::geteuid().as_raw());
        assert!(own.exe.is_some());
    }

    fn fd_target(socket: &std::net::UdpSocket) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap()
    }
}
