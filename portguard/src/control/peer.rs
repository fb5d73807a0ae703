//! The process at the other end, as the kernel identifies it.

use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _};

/// As many groups as the kernel lets a process have (`NGROUPS_MAX`).
const MOST_GROUPS: usize = 65_536;

/// The process that connected or, seen from a client, the one that listens.
pub(crate) struct Peer {
    /// 0 where it is in another pid namespace.
    pub(super) pid: u32,
    pub(crate) uid: u32,
    /// Primary and supplementary.
    groups: Vec<u32>,
}

impl Peer {
    /// The process as it was when it connected, or listened.
    pub(crate) fn of(socket: &impl AsFd) -> Result<Self, Errno> {
        let credentials = numbers(socket, libc::SO_PEERCRED, 3)?;
        let &[pid, uid, gid] = &credentials[..] else {
            return Err(Errno::INVAL);
        };
        let mut groups = match numbers(socket, libc::SO_PEERGROUPS, 64) {
            Err(Errno::RANGE) => numbers(socket, libc::SO_PEERGROUPS, MOST_GROUPS)?,
            groups => groups?,
        };
        groups.push(gid);
        Ok(Self { pid, uid, groups })
    }

    /// Root and members of `group` have access.
    pub(crate) fn has_access(&self, group: Option<u32>) -> bool {
        self.uid == 0 || group.is_some_and(|group| self.groups.contains(&group))
    }

    /// The process, for messages: `process 12 (portguardd)`.
    pub(super) fn name(&self) -> String {
        if self.pid == 0 {
            return "a process of another pid namespace".into();
        }
        match std::fs::read(format!("/proc/{}/comm", self.pid)) {
            Ok(comm) => {
                let comm = portguard_policy::escape::escape(comm.trim_ascii_end());
                format!("process {} ({comm})", self.pid)
            }
            Err(_) => format!("process {}", self.pid),
        }
    }
}

/// A socket option that is a list of 32-bit numbers, `room` at most.
fn numbers(socket: &impl AsFd, option: libc::c_int, room: usize) -> Result<Vec<u32>, Errno> {
    let mut numbers = vec![0_u32; room];
    let mut bytes = libc::socklen_t::try_from(room * 4).map_err(|_| Errno::INVAL)?;
    let fd = socket.as_fd().as_raw_fd();
    let into = numbers.as_mut_ptr().cast();
    // SAFETY: `fd` is open; the kernel writes at most `bytes` bytes to `into`, which has as many, and any
    // bytes are numbers; how many it wrote goes to `bytes`.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, into, &raw mut bytes) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    numbers.truncate(bytes as usize / 4);
    Ok(numbers)
}
