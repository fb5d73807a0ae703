//! What a probe's process does: it becomes who it is told to be, binds, and says what came of it.

use crate::elf32;
use crate::probe::{Answer, Attempt, Door, Netns, Probe};
use crate::raw;
use crate::real::cgroup_root;
use anyhow::Context as _;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_name, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::{CString, OsStr};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

/// Room for any length that a test claims.
const ADDRESS_ROOM: usize = 256;

/// The verb `bind`; prints the answers as JSON.
///
/// # Errors
/// Where the process cannot become what the probe says.
pub fn run(probe: &str) -> anyhow::Result<()> {
    let probe: Probe = serde_json::from_str(probe)?;
    become_it(&probe)?;
    let mut answers = Vec::new();
    for attempt in &probe.attempts {
        answers.push(
            match raw::socket(attempt.domain, attempt.kind, attempt.protocol) {
                Err(errno) => Answer::NoSocket(errno),
                Ok(socket) => knock(attempt, socket.as_fd()).1,
            },
        );
    }
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

/// Binds: the process that did, and what came of it.
pub(crate) fn knock(attempt: &Attempt, socket: std::os::fd::BorrowedFd<'_>) -> (u32, Answer) {
    let mut binder = std::process::id();
    let mut buffer = attempt.address.clone();
    let len = attempt
        .len
        .unwrap_or(u32::try_from(buffer.len()).unwrap_or(u32::MAX));
    buffer.resize(ADDRESS_ROOM, 0);
    let answer = match attempt.door {
        Door::Bind => Ok(raw::bind(socket, &buffer, len)),
        Door::Bindx => Ok(raw::bindx(socket, &buffer, len)),
        Door::IoUring => raw::uring(socket, &buffer, len, false),
        Door::Sqpoll => raw::uring(socket, &buffer, len, true),
        Door::Socketcall => raw::bind32(socket, &buffer, len, true),
        Door::Bind32 => raw::bind32(socket, &buffer, len, false),
        Door::Elf32 => elf32::bind(socket, &attempt.address).map(|(pid, errno)| {
            binder = pid;
            errno
        }),
    };
    let answer = match answer {
        Ok(errno) => Answer::Bound(errno),
        Err(errno) => Answer::NoDoor(errno),
    };
    (binder, answer)
}

pub(crate) fn become_it(probe: &Probe) -> anyhow::Result<()> {
    if !probe.cgroup.is_empty() {
        let path = OsStr::from_bytes(&probe.cgroup);
        let procs = cgroup_root()?.join(path).join("cgroup.procs");
        std::fs::write(&procs, "0").with_context(|| procs.display().to_string())?;
    }
    if probe.netns == Some(Netns::New) {
        raw::unshare(libc::CLONE_NEWNET).context("a network namespace")?;
    }
    // This process has one thread, so what is set for the thread is set for the process.
    let gid = Gid::from_raw(probe.gid);
    let [real, effective, saved] = probe.uids.map(Uid::from_raw);
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(real, effective, saved)?;
    if probe.netns == Some(Netns::NewWithUser) {
        raw::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
            .context("a user and a network namespace")?;
    }
    set_name(&CString::new(probe.comm.clone())?)?;
    Ok(())
}
