//! Real binds: by another user, in another cgroup, in a process of their own.
//!
//! The process is this binary again with the verb `act`: it enters the cgroup, becomes the user, binds
//! and prints the errno.

use crate::oracle::{OracleBind, Proto, slashed};
use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, ipproto, socket};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Binds are made here: an address of the loopback network that hardly any server uses.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// The mount point of the cgroup v2 tree.
///
/// # Errors
/// Where there is none.
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

/// Makes a bind for real: the errno it ended with, 0 for success.
///
/// The cgroup must exist. An address in use means that the bind was let through.
///
/// # Errors
/// Where the process cannot become what the bind is to come from.
pub fn attempt(bind: &OracleBind) -> anyhow::Result<i32> {
    let cgroup = cgroup_root()?.join(bind.cgroup.join("/"));
    let output = Command::new("/proc/self/exe")
        .arg("act")
        .args([bind.uid, bind.euid].map(|id| id.to_string()))
        .arg(cgroup)
        .args([bind.protocol.word(), &bind.port.to_string()])
        .output()?;
    if !output.status.success() {
        bail!(
            "{bind:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let errno = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(if errno == Errno::ADDRINUSE.raw_os_error() {
        0
    } else {
        errno
    })
}

/// The verb `act UID EUID CGROUP PROTOCOL PORT`.
///
/// # Errors
/// Where the process cannot become what it is told to.
pub fn act(args: &[String]) -> anyhow::Result<()> {
    let [uid, euid, cgroup, protocol, port] = args else {
        bail!("act UID EUID CGROUP PROTOCOL PORT");
    };
    let (uid, euid) = (uid.parse()?, euid.parse()?);
    let procs = Path::new(cgroup).join("cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| procs.display().to_string())?;
    let (kind, number) = match protocol.as_str() {
        "tcp" => (SocketType::STREAM, ipproto::TCP),
        "udp" => (SocketType::DGRAM, ipproto::UDP),
        "sctp" => (SocketType::STREAM, ipproto::SCTP),
        _ => bail!("no way to bind {protocol}"),
    };
    become_user(uid, euid)?;
    let fd = socket(AddressFamily::INET, kind, Some(number))?;
    let result = bind(&fd, &SocketAddrV4::new(ADDRESS, port.parse()?));
    println!("{}", result.err().map_or(0, Errno::raw_os_error));
    Ok(())
}

/// This process has one thread, so what is set for the thread is set for the process.
fn become_user(uid: u32, euid: u32) -> anyhow::Result<()> {
    let ids = (Uid::from_raw(uid), Uid::from_raw(euid));
    let gid = Gid::from_raw(uid);
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(ids.0, ids.1, ids.1)?;
    Ok(())
}

/// Cgroups made for a test. Those that were there before are used and left alone.
#[derive(Default)]
pub struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// Makes every level of `path` that is absent.
    ///
    /// # Errors
    /// Where one cannot be made.
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
///
/// # Errors
/// Where the cgroup cannot be made or entered.
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
///
/// # Errors
/// Where it cannot be read.
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
    ///
    /// # Errors
    /// Where the kernel's version cannot be read.
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
