//! What a probe's process does: it becomes who it is told to be, binds, and says what came of it.

use crate::harness::bind_runner::cgroup_root;
use crate::harness::elf32;
use crate::harness::probe::{Answer, Attempt, BindSyscall, Netns, Probe};
use crate::harness::raw_syscalls;
use anyhow::Context as _;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_name, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::{CString, OsStr};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

/// Room for any length that a test claims.
const ADDRESS_ROOM: usize = 256;

/// The verb `bind`; prints the answers as JSON.
pub fn run(probe: &str) -> anyhow::Result<()> {
    let probe: Probe = serde_json::from_str(probe)?;
    assume_identity(&probe)?;
    let mut answers = Vec::new();
    for attempt in &probe.attempts {
        answers.push(
            match raw_syscalls::socket(attempt.domain, attempt.kind, attempt.protocol) {
                Err(errno) => Answer::NoSocket(errno),
                Ok(socket) => bind_via(attempt, socket.as_fd()).1,
            },
        );
    }
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

/// Binds: the process that did, and what came of it.
pub(crate) fn bind_via(attempt: &Attempt, socket: std::os::fd::BorrowedFd<'_>) -> (u32, Answer) {
    let mut binder = std::process::id();
    let mut buffer = attempt.address.clone();
    let len = attempt
        .len
        .unwrap_or(u32::try_from(buffer.len()).unwrap_or(u32::MAX));
    buffer.resize(ADDRESS_ROOM, 0);
    let answer = match attempt.syscall {
        BindSyscall::Bind => Ok(raw_syscalls::bind(socket, &buffer, len)),
        BindSyscall::Bindx => Ok(raw_syscalls::bindx(socket, &buffer, len)),
        BindSyscall::IoUring => raw_syscalls::uring(socket, &buffer, len, false),
        BindSyscall::Sqpoll => raw_syscalls::uring(socket, &buffer, len, true),
        BindSyscall::Socketcall => raw_syscalls::bind32(socket, &buffer, len, true),
        BindSyscall::Bind32 => raw_syscalls::bind32(socket, &buffer, len, false),
        BindSyscall::Elf32 => elf32::bind(socket, &attempt.address).map(|(pid, errno)| {
            binder = pid;
            errno
        }),
    };
    let answer = match answer {
        Ok(errno) => Answer::Bound(errno),
        Err(errno) => Answer::Unsupported(errno),
    };
    (binder, answer)
}

pub(crate) fn assume_identity(probe: &Probe) -> anyhow::Result<()> {
    if !probe.cgroup.is_empty() {
        let path = OsStr::from_bytes(&probe.cgroup);
        let procs = cgroup_root()?.join(path).join("cgroup.procs");
        std::fs::write(&procs, "0").with_context(|| procs.display().to_string())?;
    }
    if probe.netns == Some(Netns::New) {
        raw_syscalls::unshare(libc::CLONE_NEWNET).context("a network namespace")?;
    }
    // This process has one thread, so what is set for the thread is set for the process.
    let gid = Gid::from_raw(probe.gid);
    let [real, effective, saved] = probe.uids.map(Uid::from_raw);
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(real, effective, saved)?;
    if probe.netns == Some(Netns::NewWithUser) {
        raw_syscalls::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
            .context("a user and a network namespace")?;
    }
    set_name(&CString::new(probe.comm.clone())?)?;
    Ok(())
}
