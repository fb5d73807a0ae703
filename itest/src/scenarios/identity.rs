//! Who binds, at its edges: a task in hundreds of groups, a socket made by systemd, a kernel thread, and a
//! kernel that says nothing of who it is.

use super::Table;
use super::checks::{allow, default, judged};
use super::missing_features::lacks;
use crate::harness::bind_runner::{ADDRESS, Cgroups, attempt};
use crate::harness::instance::{DEADLINE, Instance};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, NotApplicable, TestEnv};
use crate::oracle::{OracleBind, Proto};
use anyhow::{bail, ensure};
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("three_hundred_groups", Needs::Nothing, three_hundred_groups),
    ("socket_activation", Needs::Guest, socket_activation),
    ("nfs_mount_binds_freely", Needs::Guest, nfs_mount),
];

/// What cannot be taken back before the next boot.
pub(super) const LAST: Table = &[("lockdown_confidentiality", Needs::Guest, lockdown)];

/// The last of a task's 300 groups allows it a port, and denies it another.
fn three_hundred_groups(env: &TestEnv) -> anyhow::Result<()> {
    const LAST: u32 = 70_300;
    let bind = |port, last| OracleBind {
        port,
        protocol: Proto::Tcp,
        uid: 1000,
        euid: 1000,
        // Real and effective, then 300 more.
        gids: [1000, 1000].into_iter().chain(70_001..=last).collect(),
        cgroup: Vec::new(),
        address: ADDRESS.into(),
        v6only: false,
    };
    for hook in env.deciding_hooks() {
        let policy = format!(
            "version: 1\nrules:\n  - {{ name: a, action: allow, ports: [80], groups: [{LAST}] }}\n  \
             - {{ name: d, action: deny, ports: [81], groups: [{LAST}] }}\n"
        );
        let instance = Instance::start_with(env, &policy, hook, "json")?;
        let (all, fewer) = (LAST, LAST - 1);
        let binds = [
            bind(80, all),
            bind(80, fewer),
            bind(81, all),
            bind(81, fewer),
        ];
        let errnos = attempt(&binds.iter().collect::<Vec<_>>())?;
        let granted = if env.grants() { 0 } else { libc::EACCES };
        let want = [granted, libc::EACCES, env.denial(hook), libc::EACCES];
        ensure!(errnos == want, "{hook}: {errnos:?}, not {want:?}");
        let verdicts: Vec<String> = instance
            .events()?
            .iter()
            .map(|event| event["verdict"].as_str().unwrap_or_default().to_owned())
            .collect();
        ensure!(
            verdicts == ["allow", "kernel", "deny", "kernel"],
            "{hook}: {verdicts:?}"
        );
        instance.stop()?;
    }
    Ok(())
}

/// systemd binds in the cgroup of the .socket unit: that is who is judged, not the service.
fn socket_activation(env: &TestEnv) -> anyhow::Result<()> {
    let path = |unit: &str| ["system.slice".to_owned(), unit.to_owned()];
    let mut cgroups = Cgroups::default();
    cgroups.make(&path("pgweb.socket"))?;
    cgroups.make(&path("pgweb.service"))?;
    let instance = Instance::start(
        env,
        "{ version: 1, default: deny, rules: [{ name: socket, action: allow, ports: [80], units: [pgweb.socket] }] }",
    )?;
    let bind = |unit| {
        Probe::user(0)
            .in_cgroup(path(unit).join("/"))
            .bind(Attempt::tcp(80))
    };
    judged(env, &instance, &bind("pgweb.socket"), allow("socket"))?;
    judged(env, &instance, &bind("pgweb.service"), default("deny"))?;
    Ok(())
}

/// The NFS client binds a privileged port from a kernel thread, whatever the policy says.
fn nfs_mount(env: &TestEnv) -> anyhow::Result<()> {
    privileged_peer().map_err(|error| NotApplicable(format!("without portguard: {error:#}")))?;
    for hook in env.deciding_hooks() {
        let instance = Instance::start_with(env, "{ version: 1, default: deny }", hook, "json")?;
        privileged_peer()?;
        let events = instance.events()?;
        ensure!(events.is_empty(), "{hook}: {events:?}");
        instance.stop()?;
    }
    Ok(())
}

/// The verb `mount-nfs`: mounts from 127.0.0.1, both services on this port.
pub fn mount_nfs(port: u16, target: &Path) -> anyhow::Result<()> {
    let options = CString::new(format!(
        "vers=3,proto=tcp,mountproto=tcp,port={port},mountport={port},addr=127.0.0.1,\
         mountaddr=127.0.0.1,nolock,soft,timeo=1,retrans=1"
    ))?;
    let flags = MountFlags::RDONLY;
    mount(
        "127.0.0.1:/x",
        target,
        "nfs",
        flags,
        Some(options.as_c_str()),
    )?;
    Ok(())
}

/// A process that mounts, ended when dropped: the kernel tries again for minutes.
struct Mounting(Child);

impl Drop for Mounting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mounts from a server of our own: what counts is the port that the kernel comes from.
fn privileged_peer() -> anyhow::Result<()> {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    server.set_nonblocking(true)?;
    let port = server.local_addr()?.port();
    let directory = tempfile::tempdir()?;
    let mut mounting = Mounting(
        Command::new("/proc/self/exe")
            .args(["mount-nfs", &port.to_string()])
            .arg(directory.path())
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let until = Instant::now() + DEADLINE;
    loop {
        match server.accept() {
            Ok((_, peer)) => {
                let from = peer.port();
                ensure!(from < 1024, "the kernel came from port {from}");
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if mounting.0.try_wait()?.is_some() {
            let mut said = String::new();
            if let Some(stderr) = &mut mounting.0.stderr {
                stderr.read_to_string(&mut said)?;
            }
            bail!("mount(2): {}", said.trim());
        }
        ensure!(Instant::now() < until, "nobody came to port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// No silent half: under this lockdown the programs may not read what they decide by.
fn lockdown(_: &TestEnv) -> anyhow::Result<()> {
    std::fs::write("/sys/kernel/security/lockdown", "confidentiality")
        .map_err(|error| NotApplicable(format!("the kernel cannot be locked down: {error}")))?;
    lacks(
        "kernel lockdown: none integrity [confidentiality]",
        "boot with lockdown=integrity",
        || Ok(()),
    )
}
