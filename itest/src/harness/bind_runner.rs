//! Real binds: by another user, in another cgroup, in a process of their own.
//!
//! One process of this binary with the verb `act` makes them all: for each, a child of it enters the
//! cgroup, becomes the user, binds and ends with the errno.

use crate::harness::raw_syscalls;
use crate::oracle::{OracleBind, Proto, slashed};
use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use rustix::net::{AddressFamily, SocketType, bind, ipproto, socket};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_name, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::CString;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Binds are made here: an address of the loopback network that hardly any server uses.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// The mount point of the cgroup v2 tree.
pub fn cgroup_root() -> anyhow::Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(3);
            let (root, mount) = (fields.next()?, fields.next()?);
            (after.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(mount))
        })
        .context("no cgroup v2 tree is mounted")
}

/// Makes binds for real, one after the other: the errno each ended with, 0 for success.
///
/// The cgroups must exist. An address in use means that the bind was let through. Bind number `i` is made
/// by a process named [`name_of`]`(i)`.
pub fn attempt(binds: &[&OracleBind]) -> anyhow::Result<Vec<i32>> {
    let mut child = Command::new("/proc/self/exe")
        .arg("act")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("stdin is a pipe")?;
    input.write_all(&serde_json::to_vec(binds)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the binds could not be made");
    let errnos: Vec<i32> = serde_json::from_slice(&output.stdout)?;
    ensure!(errnos.len() == binds.len(), "not every bind was made");
    Ok(errnos)
}

/// The name of the process that makes bind number `i`.
#[must_use]
pub fn name_of(i: usize) -> String {
    format!("bind-{i}")
}

/// The verb `act`: binds as JSON on stdin, errnos as JSON on stdout.
pub fn act() -> anyhow::Result<()> {
    let binds: Vec<OracleBind> = serde_json::from_reader(std::io::stdin())?;
    let mut errnos = Vec::with_capacity(binds.len());
    for (i, bind) in binds.iter().enumerate() {
        let errno =
            raw_syscalls::in_child(|| act_one(bind, i)).with_context(|| format!("{bind:?}"))?;
        let in_use = errno == Errno::ADDRINUSE.raw_os_error();
        errnos.push(if in_use { 0 } else { errno });
    }
    println!("{}", serde_json::to_string(&errnos)?);
    Ok(())
}

/// Becomes what the bind is to come from, and makes it.
fn act_one(request: &OracleBind, i: usize) -> anyhow::Result<i32> {
    let procs = cgroup_root()?
        .join(request.cgroup.join("/"))
        .join("cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| procs.display().to_string())?;
    let (kind, number) = match request.protocol {
        Proto::Tcp => (SocketType::STREAM, ipproto::TCP),
        Proto::Udp => (SocketType::DGRAM, ipproto::UDP),
        Proto::Sctp => (SocketType::STREAM, ipproto::SCTP),
        Proto::Dccp => bail!("no way to bind dccp"),
    };
    set_name(&CString::new(name_of(i))?)?;
    become_caller(request)?;
    let family = if request.address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = socket(family, kind, Some(number))?;
    if request.address.is_ipv6() {
        set_ipv6_v6only(&fd, request.v6only)?;
    }
    let result = bind(&fd, &SocketAddr::new(request.address, request.port));
    Ok(result.err().map_or(0, Errno::raw_os_error))
}

/// This process has one thread, so what is set for the thread is set for the process.
fn become_caller(bind: &OracleBind) -> anyhow::Result<()> {
    let ids = (Uid::from_raw(bind.uid), Uid::from_raw(bind.euid));
    let gids: Vec<Gid> = bind.gids.iter().copied().map(Gid::from_raw).collect();
    let (real, effective, more) = match gids.as_slice() {
        [one] => (*one, *one, &[][..]),
        [real, effective, more @ ..] => (*real, *effective, more),
        [] => bail!("a bind without a gid"),
    };
    set_thread_groups(more)?;
    set_thread_res_gid(real, effective, effective)?;
    set_thread_res_uid(ids.0, ids.1, ids.1)?;
    Ok(())
}

/// Cgroups made for a test. Those that were there before are used and left alone.
#[derive(Default)]
pub struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// Makes every level of `path` that is absent.
    pub fn make(&mut self, path: &[String]) -> anyhow::Result<()> {
        let mut at = cgroup_root()?;
        for name in path {
            ensure!(
                !name.is_empty() && name != "..",
                "no cgroup: {}",
                slashed(path)
            );
            at.push(name);
            if !at.exists() {
                std::fs::create_dir(&at).with_context(|| at.display().to_string())?;
                self.0.push(at.clone());
            }
        }
        Ok(())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A process that just ended may hold the cgroup for another moment.
            for _ in 0..50 {
                if std::fs::remove_dir(path).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// Does something while this process is in a cgroup made for it.
pub fn within<T>(path: &[&str], done: impl FnOnce() -> T) -> anyhow::Result<T> {
    let path: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
    let root = cgroup_root()?;
    let before = own_cgroup()?;
    let mut cgroups = Cgroups::default();
    cgroups.make(&path)?;
    let enter = |path: &Path| std::fs::write(root.join(path).join("cgroup.procs"), "0");
    enter(path.join("/").as_ref())?;
    let result = done();
    enter(before.as_ref())?;
    Ok(result)
}

/// This process's path in the v2 tree, without the slash it begins with.
fn own_cgroup() -> anyhow::Result<String> {
    let all = std::fs::read_to_string("/proc/self/cgroup")?;
    all.lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .map(str::to_owned)
        .context("this process is in no cgroup v2")
}

/// What a bind ends with where portguard says nothing: the kernel's own capability rule.
///
/// A process has the capability while its effective uid is 0.
#[must_use]
pub fn by_kernel(bind: &OracleBind) -> i32 {
    let privileged = (1..1024).contains(&bind.port);
    if privileged && bind.euid != 0 {
        Errno::ACCESS.raw_os_error()
    } else {
        0
    }
}

/// What this kernel and hook can do with a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Powers {
    /// `allow` skips the capability check (Linux 5.12).
    pub grants: bool,
    /// What `deny` ends with: EPERM by the cgroup hook before 5.18, else EACCES.
    pub denial: i32,
    /// SCTP is judged: by the LSM only.
    pub sctp: bool,
}

/// Version of the running kernel.
pub fn kernel_version() -> anyhow::Result<(u32, u32)> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .with_context(|| format!("kernel {release}"))
}

impl Powers {
    /// Of this kernel, by the hook that a running portguard took.
    pub fn of(by_cgroup_hook: bool) -> anyhow::Result<Self> {
        let kernel = kernel_version()?;
        let since = |version: (u32, u32)| kernel >= version;
        Ok(Self {
            grants: since((5, 12)),
            denial: if by_cgroup_hook && !since((5, 18)) {
                Errno::PERM.raw_os_error()
            } else {
                Errno::ACCESS.raw_os_error()
            },
            sctp: !by_cgroup_hook,
        })
    }

    /// What a bind must end with, where it was judged `verdict` and that is enforced.
    #[must_use]
    pub fn errno(&self, bind: &OracleBind, verdict: crate::oracle::Action) -> i32 {
        use crate::oracle::Action;
        let sctp = bind.protocol == Proto::Sctp;
        match verdict {
            Action::Deny if !sctp || self.sctp => self.denial,
            Action::Allow if self.grants && !sctp => 0,
            _ => by_kernel(bind),
        }
    }
}
