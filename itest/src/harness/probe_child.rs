//! What a probe's process does: it takes on the probe's identity, binds, and prints the results.

use crate::harness::cgroups::{cgroup_root, enter};
use crate::harness::elf32;
use crate::harness::probe::{Attempt, BindResult, BindSyscall, Netns, Probe, Userns};
use crate::harness::raw_syscalls;
use anyhow::{Context as _, ensure};
use rustix::net::sockopt::set_ipv6_v6only;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{set_name, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::{CString, OsStr};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

/// Room for any length that a test claims.
const ADDRESS_ROOM: usize = 256;

/// The verb `bind`: probes as JSON on stdin; a line of results for each on stdout.
pub fn run() -> anyhow::Result<()> {
    let probes: Vec<Probe> = serde_json::from_reader(std::io::stdin())?;
    if let [probe] = &probes[..] {
        return bind_all(probe);
    }
    for probe in &probes {
        // Each in a child: the identity of the last cannot be given up again.
        let status = raw_syscalls::in_child(|| bind_all(probe).map(|()| 0))?;
        ensure!(status == 0, "{probe:?}: the child ended with {status}");
    }
    Ok(())
}

fn bind_all(probe: &Probe) -> anyhow::Result<()> {
    assume_identity(probe).with_context(|| format!("{probe:?}"))?;
    let results: Vec<BindResult> = probe
        .attempts
        .iter()
        .map(|attempt| match open(attempt) {
            Err(errno) => BindResult::NoSocket(errno),
            Ok(socket) => bind_via(attempt, socket.as_fd()).1,
        })
        .collect();
    println!("{}", serde_json::to_string(&results)?);
    Ok(())
}

fn open(attempt: &Attempt) -> Result<OwnedFd, i32> {
    let socket = raw_syscalls::socket(attempt.domain, attempt.kind, attempt.protocol)?;
    if let Some(only) = attempt.v6only {
        set_ipv6_v6only(&socket, only).map_err(|error| error.raw_os_error())?;
    }
    Ok(socket)
}

/// Binds: the process that did, and the result.
pub(crate) fn bind_via(attempt: &Attempt, socket: BorrowedFd<'_>) -> (u32, BindResult) {
    let mut binder = std::process::id();
    let mut buffer = attempt.address.clone();
    let len = attempt
        .len
        .unwrap_or(u32::try_from(buffer.len()).unwrap_or(u32::MAX));
    buffer.resize(ADDRESS_ROOM, 0);
    let result = match attempt.syscall {
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
    let result = match result {
        Ok(errno) => BindResult::Bound(errno),
        Err(errno) => BindResult::Unsupported(errno),
    };
    (binder, result)
}

/// Becomes a subordinate uid of the owner, whose user namespace root maps as newuidmap(1) does.
fn enter_userns(probe: &Probe, userns: Userns) -> anyhow::Result<()> {
    const MAP: &str =
        "read go && echo \"0 $0 1\" >/proc/$PPID/uid_map && echo \"0 $1 1\" >/proc/$PPID/gid_map";
    let ids = [probe.uids[0], probe.gids[0]].map(|id| id.to_string());
    // It stays root.
    let mut mapper = Command::new("/bin/sh")
        .args(["-c", MAP])
        .args(ids)
        .stdin(Stdio::piped())
        .spawn()?;
    set_thread_groups(&[])?;
    let (owner, group) = (Uid::from_raw(userns.owner), Gid::from_raw(userns.group));
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(owner, owner, owner)?;
    raw_syscalls::unshare(libc::CLONE_NEWUSER)?;
    let mut stdin = mapper.stdin.take().context("stdin is a pipe")?;
    stdin.write_all(b"go\n")?;
    let status = mapper.wait()?;
    ensure!(status.success(), "the maps cannot be written: {status}");
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    for level in 0..userns.nested {
        set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        raw_syscalls::unshare(libc::CLONE_NEWUSER).with_context(|| format!("level {level}"))?;
        // Without both maps none can be made inside it.
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/gid_map", "0 0 1")?;
        std::fs::write("/proc/self/uid_map", "0 0 1")?;
    }
    Ok(())
}

pub(crate) fn assume_identity(probe: &Probe) -> anyhow::Result<()> {
    if let Some(cgroup) = &probe.cgroup {
        let path = cgroup_root()?.join(OsStr::from_bytes(cgroup));
        enter(&path, "cgroup.procs")?;
    }
    if probe.netns == Some(Netns::New) {
        raw_syscalls::unshare(libc::CLONE_NEWNET).context("a network namespace")?;
    }
    if let Some(userns) = probe.userns {
        enter_userns(probe, userns).context("a user namespace")?;
        return Ok(set_name(&CString::new(probe.comm.clone())?)?);
    }
    // This process has one thread, so what is set for the thread is set for the process.
    let [real_gid, effective_gid] = probe.gids.map(Gid::from_raw);
    let groups: Vec<Gid> = probe.groups.iter().copied().map(Gid::from_raw).collect();
    let [real, effective, saved] = probe.uids.map(Uid::from_raw);
    set_thread_groups(&groups)?;
    set_thread_res_gid(real_gid, effective_gid, effective_gid)?;
    set_thread_res_uid(real, effective, saved)?;
    if probe.netns == Some(Netns::NewWithUser) {
        raw_syscalls::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
            .context("a user and a network namespace")?;
    }
    set_name(&CString::new(probe.comm.clone())?)?;
    Ok(())
}
