//! A process that holds bound sockets, for tests of sockets bound before portguard started.

use crate::harness::probe::{BindResult, Probe};
use crate::harness::probe_child::{assume_identity, bind_via};
use crate::harness::raw_syscalls;
use anyhow::{Context as _, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, accept, listen, recv, sendmsg, socketpair,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A probe, and what its process does with its sockets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hold {
    pub probe: Probe,
    /// TCP sockets are not put into the listening state.
    pub idle: bool,
    /// Where the sockets are.
    pub kept_in: KeptIn,
    /// The uid and gid that the process has once it has bound them.
    pub drops_to: Option<u32>,
    /// The process ends when its first socket, a UDP socket, is aborted.
    pub brittle: bool,
}

/// Where a process keeps its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptIn {
    /// In its table of files.
    Process,
    /// In flight in an `SCM_RIGHTS` message.
    Message,
    /// In the table of files of one thread.
    Thread,
    /// Among the files of an `io_uring`.
    Ring,
}

impl Hold {
    /// Holds the sockets of a probe, listening.
    #[must_use]
    pub const fn of(probe: Probe) -> Self {
        Self {
            probe,
            idle: false,
            kept_in: KeptIn::Process,
            drops_to: None,
            brittle: false,
        }
    }

    /// Starts the process and waits until it has bound its sockets.
    pub fn start(&self) -> anyhow::Result<Held> {
        let hold = serde_json::to_string(self)?;
        let mut child = Command::new("/proc/self/exe")
            .args(["hold", &hold])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the holder")?;
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut held = Held {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            results: Vec::new(),
        };
        held.results = serde_json::from_str(&held.line()?)?;
        Ok(held)
    }
}

/// A process that holds sockets, killed when dropped.
pub struct Held {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub results: Vec<BindResult>,
}

impl Held {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The errno of accept(2) or recv(2) on each of its sockets: `EAGAIN` unless it was closed.
    pub fn errnos(&mut self) -> anyhow::Result<Vec<i32>> {
        self.stdin.write_all(b"\n")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the holder ended");
        Ok(line)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended already; std does not signal a reaped child.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The verb `hold`: binds, and for each line of its input prints the errnos of its sockets.
pub fn run(hold: &str) -> anyhow::Result<()> {
    let hold: Hold = serde_json::from_str(hold)?;
    assume_identity(&hold.probe)?;
    let (mut results, mut sockets) = (Vec::new(), Vec::new());
    for attempt in &hold.probe.attempts {
        let kind = attempt.kind | libc::SOCK_NONBLOCK;
        results.push(
            match raw_syscalls::socket(attempt.domain, kind, attempt.protocol) {
                Err(errno) => BindResult::NoSocket(errno),
                Ok(socket) => {
                    // So that processes of the same user can bind the port too.
                    let _ = set_socket_reuseport(&socket, true);
                    let result = bind_via(attempt, socket.as_fd()).1;
                    if attempt.kind != libc::SOCK_DGRAM && !hold.idle {
                        listen(&socket, 8)?;
                    }
                    sockets.push((attempt.kind, socket));
                    result
                }
            },
        );
    }
    let _kept = keep(hold.kept_in, &mut sockets)?;
    if let Some(id) = hold.drops_to {
        drop_to(id)?;
    }
    println!("{}", serde_json::to_string(&results)?);
    if let (true, Some((_, socket))) = (hold.brittle, sockets.first()) {
        rustix::io::ioctl_fionbio(socket, false)?;
        let aborted = recv(socket, &mut [0; 8], RecvFlags::empty()).err();
        ensure!(aborted == Some(Errno::CONNABORTED), "recv: {aborted:?}");
        return Ok(());
    }
    for line in std::io::stdin().lines() {
        line?;
        let errnos: Vec<i32> = sockets
            .iter()
            .map(|(kind, socket)| errno_of(*kind, socket))
            .collect();
        println!("{}", serde_json::to_string(&errnos)?);
    }
    Ok(())
}

fn errno_of(kind: i32, socket: &OwnedFd) -> i32 {
    let outcome = if kind == libc::SOCK_DGRAM {
        recv(socket, &mut [0; 8], RecvFlags::DONTWAIT).map(drop)
    } else {
        accept(socket).map(drop)
    };
    outcome.err().map_or(0, Errno::raw_os_error)
}

/// What keeps the sockets open.
enum KeptOpen {
    Process,
    Message { _pair: (OwnedFd, OwnedFd) },
    Ring { _ring: Box<io_uring::IoUring> },
}

/// Puts the sockets where they are to be, and closes them in this process.
fn keep(kept_in: KeptIn, sockets: &mut Vec<(i32, OwnedFd)>) -> anyhow::Result<KeptOpen> {
    let kept = match kept_in {
        KeptIn::Process => return Ok(KeptOpen::Process),
        KeptIn::Message => KeptOpen::Message {
            _pair: send_away(sockets)?,
        },
        KeptIn::Thread => {
            let (done, is_done) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let _ = done.send(raw_syscalls::unshare(libc::CLONE_FILES));
                loop {
                    std::thread::park();
                }
            });
            is_done.recv()??;
            KeptOpen::Process
        }
        KeptIn::Ring => {
            let ring = io_uring::IoUring::new(2)?;
            let files: Vec<i32> = sockets.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
            ring.submitter().register_files(&files)?;
            KeptOpen::Ring {
                _ring: Box::new(ring),
            }
        }
    };
    sockets.clear();
    Ok(kept)
}

/// As daemons do that bind as root: first the groups, then the user.
fn drop_to(id: u32) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Puts the sockets into a message that is never received.
fn send_away(sockets: &[(i32, OwnedFd)]) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    const MOST: usize = 8;
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let pair = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    let borrowed: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&borrowed)),
        "{} sockets are too many for a message",
        borrowed.len()
    );
    sendmsg(
        &pair.0,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(pair)
}
