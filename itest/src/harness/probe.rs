//! A probe: a process of a given user, groups, cgroup and network namespace that makes given binds.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Read as _};
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
    /// `IORING_OP_BIND` by a kernel thread (`IORING_SETUP_SQPOLL`)
    Sqpoll,
    /// `socketcall` of the 32-bit system call table
    Socketcall,
    /// `bind` of the 32-bit system call table
    Bind32,
    /// bind(2) by a 32-bit program that inherits the socket
    Elf32,
}

/// A new network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Netns {
    /// Made by root.
    New,
    /// Made by the user, in a new user namespace.
    NewWithUser,
}

/// A user namespace on the host's network that the probe acts in, with its uids and gids mapped as newuidmap(1) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Userns {
    /// Who makes it.
    pub owner: u32,
    /// The effective gid of who makes it.
    pub group: u32,
    /// User namespaces inside it, each made by the probe's own user.
    pub nested: u32,
}

/// A socket and the address to bind it to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// `AF_*` of the socket.
    pub domain: i32,
    /// `SOCK_*`
    pub kind: i32,
    /// `IPPROTO_*`
    pub protocol: i32,
    /// `IPV6_V6ONLY`, if it is set.
    pub v6only: Option<bool>,
    /// The bytes of the address.
    pub address: Vec<u8>,
    /// The length to claim, if it is not that of the bytes.
    pub len: Option<u32>,
    pub syscall: BindSyscall,
}

/// The result of an [`Attempt`]: 0 or an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindResult {
    /// socket(2) failed.
    NoSocket(i32),
    /// The kernel lacks this system call.
    Unsupported(i32),
    /// The bind was attempted.
    Bound(i32),
}

/// A process and its binds, one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Real, effective and saved uid.
    pub uids: [u32; 3],
    /// Real and effective gid.
    pub gids: [u32; 2],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Path below the root of the cgroup tree, if it is not the caller's cgroup.
    pub cgroup: Option<Vec<u8>>,
    /// User namespace, if it is not the caller's.
    pub userns: Option<Userns>,
    /// Network namespace, if it is not the caller's.
    pub netns: Option<Netns>,
    /// The thread's name: unique, so that its events can be found.
    pub comm: Vec<u8>,
    pub attempts: Vec<Attempt>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Probe {
    /// A process of this user; only root's has capabilities.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let comm = format!("pg{}-{number}", std::process::id());
        Self {
            uids: [uid; 3],
            gids: [uid; 2],
            groups: Vec::new(),
            cgroup: None,
            userns: None,
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
        self.cgroup = Some(path.as_ref().to_vec());
        self
    }

    /// In a new user namespace on the host's network.
    #[must_use]
    pub fn in_userns(mut self, userns: Userns) -> Self {
        self.userns = Some(userns);
        self
    }

    /// In a new network namespace.
    #[must_use]
    pub fn in_netns(mut self, netns: Netns) -> Self {
        self.netns = Some(netns);
        self
    }

    /// Adds a bind.
    #[must_use]
    pub fn bind(mut self, attempt: Attempt) -> Self {
        self.attempts.push(attempt);
        self
    }

    /// Starts the process.
    pub fn spawn(&self) -> anyhow::Result<Running> {
        Running::start(std::slice::from_ref(self))
    }

    /// Starts the process and waits for its results.
    pub fn run(&self) -> anyhow::Result<Vec<BindResult>> {
        self.spawn()?.wait()
    }
}

/// Runs probes one after the other, in children of a single process: much faster than a process each.
pub(crate) fn run_all(probes: &[Probe]) -> anyhow::Result<Vec<Vec<BindResult>>> {
    Running::start(probes)?.results()
}

/// The process of some probes, killed when dropped.
pub struct Running {
    child: Child,
    /// How many binds each probe makes.
    binds: Vec<usize>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if its results were read; std does not signal a reaped child.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(probes: &[Probe]) -> anyhow::Result<Self> {
        // This very program, even if its file was replaced since it started.
        let mut child = Command::new("/proc/self/exe")
            .arg("bind")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the probe")?;
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let running = Self {
            child,
            binds: probes.iter().map(|probe| probe.attempts.len()).collect(),
        };
        serde_json::to_writer(BufWriter::new(stdin), probes).context("the probe's stdin")?;
        Ok(running)
    }

    /// The results of the only probe.
    pub fn wait(self) -> anyhow::Result<Vec<BindResult>> {
        self.results()?.pop().context("no probe")
    }

    fn results(mut self) -> anyhow::Result<Vec<Vec<BindResult>>> {
        let (mut results, mut stderr) = (String::new(), String::new());
        let stdout = self.child.stdout.as_mut().context("stdout is a pipe")?;
        stdout.read_to_string(&mut results)?;
        // An error is a line or two: the pipe holds them.
        let pipe = self.child.stderr.as_mut().context("stderr is a pipe")?;
        pipe.read_to_string(&mut stderr)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the probe: {}", stderr.trim());
        let results: Vec<Vec<BindResult>> = results
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let counts: Vec<usize> = results.iter().map(Vec::len).collect();
        ensure!(
            counts == self.binds,
            "{counts:?} results of {:?} binds",
            self.binds
        );
        Ok(results)
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
            v6only: None,
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

    #[must_use]
    pub fn by(mut self, syscall: BindSyscall) -> Self {
        self.syscall = syscall;
        self
    }

    /// With a wrong length.
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
