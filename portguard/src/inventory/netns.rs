//! Finds network namespaces and runs code inside one.

use super::diag::{Diag, Socket};
use super::error::InventoryError;
use super::processes::pid_of;
use procfs::process::Process;
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::fs::{File, metadata};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
#[derive(Debug)]
pub(super) struct Netns {
    /// Its inode number, as in events.
    pub(super) inode: u32,
    file: File,
}

/// Network namespaces to list.
#[derive(Default)]
pub(super) struct Candidates {
    /// By inode number, with every file that refers to each: a process may end meanwhile.
    pub(super) files: BTreeMap<u32, Vec<PathBuf>>,
    /// Processes whose namespace a sandbox hides, even from CAP_SYS_PTRACE.
    pub(super) hidden: usize,
}

/// The one namespace that `scope: host` means.
pub(super) fn host(inode: u32) -> Candidates {
    let paths = ["/proc/1/ns/net", OWN].map(PathBuf::from);
    let paths = paths.into_iter().filter(|path| inode_of(path) == Ok(inode));
    Candidates {
        files: BTreeMap::from([(inode, paths.collect())]),
        hidden: 0,
    }
}

/// Every namespace that has a process or is mounted.
pub(super) fn all() -> Result<Candidates, InventoryError> {
    let mut found = Candidates::default();
    let can_ptrace = can_ptrace();
    let processes = std::fs::read_dir("/proc").map_err(InventoryError::Proc)?;
    let processes = processes.flatten().map(|entry| entry.path());
    let processes = processes.filter(|path| pid_of(path).is_some());
    // `ip netns` and container engines keep namespaces without a process by a mount.
    let mounts = Process::myself().and_then(|own| own.mountinfo());
    let mounts = mounts.map_or_else(|_| Vec::new(), |mounts| mounts.0);
    let mounts = mounts.into_iter().filter(|mount| mount.fs_type == "nsfs");
    let mounted = mounts
        .filter(|mount| mount.root.starts_with("net:"))
        .map(|mount| mount.mount_point);
    for path in processes.map(|path| path.join("ns/net")).chain(mounted) {
        match inode_of(&path) {
            Ok(inode) => found.files.entry(inode).or_default().push(path),
            Err(ErrorKind::PermissionDenied) if can_ptrace => found.hidden += 1,
            Err(ErrorKind::PermissionDenied) => {
                return Err(InventoryError::Rights {
                    what: format!("cannot read the network namespace {}", path.display()),
                    capability: "CAP_SYS_PTRACE",
                });
            }
            // The process ended meanwhile, or the mount is not reachable.
            Err(_) => {}
        }
    }
    Ok(found)
}

/// Whether this process has the capability to read the namespaces of others.
pub(super) fn can_ptrace() -> bool {
    /// `CAP_SYS_PTRACE` of `include/uapi/linux/capability.h`.
    const CAP_SYS_PTRACE: u32 = 19;
    let status = Process::myself().and_then(|own| own.status());
    status.is_ok_and(|status| status.capeff & (1 << CAP_SYS_PTRACE) != 0)
}

fn inode_of(path: &Path) -> Result<u32, ErrorKind> {
    let file = metadata(path).map_err(|error| error.kind())?;
    u32::try_from(file.ino()).map_err(|_| ErrorKind::InvalidData)
}

impl Netns {
    /// Opens one by any of its files; `None` where it is gone.
    pub(super) fn open(inode: u32, paths: &[PathBuf]) -> Option<Self> {
        paths.iter().find_map(|path| {
            let file = File::open(path).ok()?;
            // The process may have changed its namespace since.
            let same = file.metadata().ok()?.ino() == u64::from(inode);
            same.then_some(Self { inode, file })
        })
    }

    /// The sockets in it whose port satisfies `is_wanted`.
    pub(super) fn sockets(
        &self,
        is_wanted: impl Fn(u16) -> bool + Send,
    ) -> Result<Vec<Socket>, InventoryError> {
        let listed = self.within(|| Diag::open()?.sockets(is_wanted))?;
        Ok(listed?)
    }

    /// Runs `action` inside, in a thread of its own.
    pub(super) fn within<T: Send>(
        &self,
        action: impl FnOnce() -> T + Send,
    ) -> Result<T, InventoryError> {
        // Its own namespace a process can use without any privilege.
        if inode_of(Path::new(OWN)) == Ok(self.inode) {
            return Ok(action());
        }
        let inside = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.file.as_fd(), kind)?;
            Ok(action())
        };
        let joined = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("netns".into());
            let thread = thread.spawn_scoped(scope, inside);
            thread.map(|thread| thread.join().unwrap_or(Err(Errno::INTR)))
        });
        let entered = joined.map_err(InventoryError::Thread)?;
        entered.map_err(|errno| InventoryError::Rights {
            what: format!("cannot enter network namespace {}: {errno}", self.inode),
            capability: "CAP_SYS_ADMIN",
        })
    }
}
