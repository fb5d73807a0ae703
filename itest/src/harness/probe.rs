//! A probe: who binds what, from where, by which syscall; carried out by a process of its own.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The system call that binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindSyscall {
    /// bind(2)
    Bind,
    /// `setsockopt(SOL_SCTP, SCTP_SOCKOPT_BINDX_ADD)`
    Bindx,
    /// `IORING_OP_BIND`
    IoUring,
    /// `IORING_OP_BIND`, carried out by a thread of the kernel (`IORING_SETUP_SQPOLL`)
    Sqpoll,
    /// `socketcall` of the 32-bit system call table
    Socketcall,
    /// `bind` of the 32-bit system call table
    Bind32,
    /// A 32-bit program that is handed the socket
    Elf32,
}

/// A network namespace made for the bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Netns {
    /// By root.
    New,
    /// By the user, in a user namespace of its own.
    NewWithUser,
}

/// A socket and the address it is to get.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// `AF_*` of the socket.
    pub domain: i32,
    /// `SOCK_*`.
    pub kind: i32,
    /// `IPPROTO_*`.
    pub protocol: i32,
    /// The bytes of the address.
    pub address: Vec<u8>,
    /// The length that is claimed, where it is not that of the bytes.
    pub len: Option<u32>,
    /// How it is bound.
    pub syscall: BindSyscall,
}

/// What became of an [`Attempt`]: 0 or an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// There was no socket to bind.
    NoSocket(i32),
    /// This way to bind does not exist here.
    Unsupported(i32),
    /// The bind was tried.
    Bound(i32),
}

/// A process and its binds, one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Real, effective and saved uid.
    pub uids: [u32; 3],
    /// Gid.
    pub gid: u32,
    /// Cgroup, below the root of the tree; empty: that of the caller.
    pub cgroup: Vec<u8>,
    /// Network namespace, where it is not the caller's.
    pub netns: Option<Netns>,
    /// The thread's name, unique where the test does not say otherwise.
    pub comm: Vec<u8>,
    /// The binds.
    pub attempts: Vec<Attempt>,
}

/// Every probe has its own name, so that its events are told from all others.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Probe {
    /// A process of this user, with no capability unless it is root.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let comm = format!("pg{}-{number}", std::process::id());
        Self {
            uids: [uid; 3],
            gid: uid,
            cgroup: Vec::new(),
            netns: None,
            comm: comm.into_bytes(),
            attempts: Vec::new(),
        }
    }

    /// With these real and effective uids; the saved one is the effective.
    #[must_use]
    pub fn uids(mut self, real: u32, effective: u32) -> Self {
        self.uids = [real, effective, effective];
        self
    }

    /// In this cgroup, below the root of the tree.
    #[must_use]
    pub fn in_cgroup(mut self, path: impl AsRef<[u8]>) -> Self {
        self.cgroup = path.as_ref().to_vec();
        self
    }

    /// In a network namespace of its own.
    #[must_use]
    pub fn in_netns(mut self, netns: Netns) -> Self {
        self.netns = Some(netns);
        self
    }

    /// Makes this bind too.
    #[must_use]
    pub fn bind(mut self, attempt: Attempt) -> Self {
        self.attempts.push(attempt);
        self
    }

    /// Starts the process.
    pub fn spawn(&self) -> anyhow::Result<Running> {
        let probe = serde_json::to_string(self)?;
        // This very program, even where its file was replaced since it began.
        let child = Command::new("/proc/self/exe")
            .args(["bind", &probe])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the probe")?;
        Ok(Running(child))
    }

    /// Starts the process and waits for it.
    pub fn run(&self) -> anyhow::Result<Vec<Answer>> {
        let answers = self.spawn()?.wait()?;
        ensure!(
            answers.len() == self.attempts.len(),
            "{self:?}: {answers:?}"
        );
        Ok(answers)
    }
}

/// A probe's process, killed when dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already where it was waited for; std knows and signals nobody else.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// What became of its binds.
    pub fn wait(mut self) -> anyhow::Result<Vec<Answer>> {
        let (mut answers, mut said) = (Vec::new(), String::new());
        let stdout = self.0.stdout.as_mut().context("stdout is a pipe")?;
        stdout.read_to_end(&mut answers)?;
        // An error is a line or two: the pipe holds them.
        let stderr = self.0.stderr.as_mut().context("stderr is a pipe")?;
        stderr.read_to_string(&mut said)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the probe: {}", said.trim());
        Ok(serde_json::from_slice(&answers)?)
    }
}

impl Attempt {
    /// An attempt by bind(2).
    #[must_use]
    pub fn new(domain: i32, kind: i32, protocol: i32, address: Vec<u8>) -> Self {
        Self {
            domain,
            kind,
            protocol,
            address,
            len: None,
            syscall: BindSyscall::Bind,
        }
    }

    /// TCP on 127.0.0.1.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        Self::tcp_at(Ipv4Addr::LOCALHOST, port)
    }

    /// TCP on an IPv4 address.
    #[must_use]
    pub fn tcp_at(address: Ipv4Addr, port: u16) -> Self {
        Self::new(
            libc::AF_INET,
            libc::SOCK_STREAM,
            0,
            inet(libc::AF_INET, address, port),
        )
    }

    /// UDP on 127.0.0.1.
    #[must_use]
    pub fn udp(port: u16) -> Self {
        Self::new(
            libc::AF_INET,
            libc::SOCK_DGRAM,
            0,
            inet(libc::AF_INET, Ipv4Addr::LOCALHOST, port),
        )
    }

    /// TCP on an IPv6 address.
    #[must_use]
    pub fn tcp6(address: Ipv6Addr, port: u16) -> Self {
        Self::new(libc::AF_INET6, libc::SOCK_STREAM, 0, inet6(address, port))
    }

    /// By another syscall.
    #[must_use]
    pub fn by(mut self, syscall: BindSyscall) -> Self {
        self.syscall = syscall;
        self
    }

    /// With another length.
    #[must_use]
    pub fn claiming(mut self, len: u32) -> Self {
        self.len = Some(len);
        self
    }
}

fn family(number: i32) -> [u8; 2] {
    // Families are small numbers.
    u16::try_from(number).unwrap_or(u16::MAX).to_ne_bytes()
}

/// A `sockaddr_in` that claims to be of family `claimed`.
#[must_use]
pub fn inet(claimed: i32, address: Ipv4Addr, port: u16) -> Vec<u8> {
    [
        &family(claimed)[..],
        &port.to_be_bytes(),
        &address.octets(),
        &[0; 8],
    ]
    .concat()
}

/// A `sockaddr_in6`.
#[must_use]
pub fn inet6(address: Ipv6Addr, port: u16) -> Vec<u8> {
    [
        &family(libc::AF_INET6)[..],
        &port.to_be_bytes(),
        &[0; 4],
        &address.octets(),
        &[0; 4],
    ]
    .concat()
}
