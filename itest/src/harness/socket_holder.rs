//! A process that has bound its sockets and keeps them: what is there before portguard is.

use crate::harness::probe::{Answer, Probe};
use crate::harness::probe_child::{assume_identity, bind_via};
use crate::harness::raw_syscalls;
use anyhow::{Context as _, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, accept, listen, recv, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Who binds what, and what becomes of the sockets then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// The process and its binds.
    pub probe: Probe,
    /// Sockets that could listen do not.
    pub idle: bool,
    /// The sockets are on their way to another process, and open in none.
    pub in_flight: bool,
    /// The process ends where its first socket, one of UDP, is aborted.
    pub brittle: bool,
}

impl Hold {
    /// Keeps the sockets of a probe, listening.
    #[must_use]
    pub const fn of(probe: Probe) -> Self {
        Self {
            probe,
            idle: false,
            in_flight: false,
            brittle: false,
        }
    }

    /// Starts the process and waits until all is bound.
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
            answers: Vec::new(),
        };
        held.answers = serde_json::from_str(&held.line()?)?;
        Ok(held)
    }
}

/// A process that keeps its sockets, killed when dropped.
pub struct Held {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// What came of its binds.
    pub answers: Vec<Answer>,
}

impl Held {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What accept(2) or recv(2) ends with on each socket that it has: `EAGAIN` while all is well.
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
        // Gone already where it failed; std knows and signals nobody else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The verb `hold`: binds, and answers each line of its input with how its sockets are.
pub fn run(hold: &str) -> anyhow::Result<()> {
    let hold: Hold = serde_json::from_str(hold)?;
    assume_identity(&hold.probe)?;
    let (mut answers, mut sockets) = (Vec::new(), Vec::new());
    for attempt in &hold.probe.attempts {
        let kind = attempt.kind | libc::SOCK_NONBLOCK;
        answers.push(
            match raw_syscalls::socket(attempt.domain, kind, attempt.protocol) {
                Err(errno) => Answer::NoSocket(errno),
                Ok(socket) => {
                    // So that others can have the port too, as far as their user is the same.
                    let _ = set_socket_reuseport(&socket, true);
                    let answer = bind_via(attempt, socket.as_fd()).1;
                    if attempt.kind != libc::SOCK_DGRAM && !hold.idle {
                        listen(&socket, 8)?;
                    }
                    sockets.push((attempt.kind, socket));
                    answer
                }
            },
        );
    }
    let _on_the_way = hold
        .in_flight
        .then(|| send_away(&mut sockets))
        .transpose()?;
    println!("{}", serde_json::to_string(&answers)?);
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

/// Puts the sockets into a message that nobody takes, and closes them.
fn send_away(sockets: &mut Vec<(i32, OwnedFd)>) -> anyhow::Result<(OwnedFd, OwnedFd)> {
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
    sockets.clear();
    Ok(pair)
}
