//! Callers at the edges: a task in hundreds of groups, a socket made by systemd, a kernel thread, and a locked-down
//! kernel that hides who the caller is.

use super::checks::{allow, default, expect_decision};
use super::missing_features::lacks;
use crate::harness::cgroups::Cgroups;
use crate::harness::lines::DEADLINE;
use crate::harness::oracle_probe::errnos;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, NotApplicable, SharedInstance, SharedTable, Table, TestEnv};
use crate::oracle::OracleBind;
use anyhow::{Context as _, bail, ensure};
use rustix::mount::{MountFlags, mount};
use serde_json::json;
use std::ffi::CString;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const TESTS: SharedTable = &[
    ("groups_three_hundred", Needs::Nothing, groups_three_hundred),
    (
        "groups_of_setgid_program",
        Needs::Nothing,
        groups_of_setgid_program,
    ),
    (
        "event_names_the_process",
        Needs::Nothing,
        event_names_the_process,
    ),
    ("socket_activation", Needs::Guest, socket_activation),
    ("nfs_mount_binds_freely", Needs::Guest, nfs_mount),
];

/// Lockdown lasts until the next boot, so this test is the last.
pub(super) const LAST: Table = &[("lockdown_confidentiality", Needs::Guest, lockdown)];

/// The last of a task's 300 groups allows it one port and denies it another.
fn groups_three_hundred(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    const LAST: u32 = 70_300;
    let bind = |port, last| OracleBind {
        groups: (70_001..=last).collect(),
        ..OracleBind::tcp(port, 1000, Vec::new())
    };
    let policy = format!(
        "version: 1\nrules:\n  - {{ name: a, action: allow, ports: [80], groups: [{LAST}] }}\n  \
         - {{ name: d, action: deny, ports: [81], groups: [{LAST}] }}\n"
    );
    let (all, fewer) = (LAST, LAST - 1);
    let probes = [
        bind(80, all),
        bind(80, fewer),
        bind(81, all),
        bind(81, fewer),
    ]
    .map(|bind| Probe::from(&bind));
    expect_verdicts(
        env,
        shared,
        &policy,
        &probes,
        &["allow", "kernel", "deny", "kernel"],
    )
}

/// A user who runs a program of a group may not do what the group alone may, nor what is denied to the group or to them.
fn groups_of_setgid_program(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    const USER: u32 = 1000;
    const PROGRAM: u32 = 2000;
    let policy = format!(
        "version: 1\nrules:\n  \
         - {{ name: allow-program, action: allow, ports: [80], groups: [{PROGRAM}] }}\n  \
         - {{ name: allow-user, action: allow, ports: [81], groups: [{USER}] }}\n  \
         - {{ name: allow-both, action: allow, ports: [82], groups: [{USER}, {PROGRAM}] }}\n  \
         - {{ name: deny-program, action: deny, ports: [83], groups: [{PROGRAM}] }}\n  \
         - {{ name: deny-user, action: deny, ports: [84], groups: [{USER}] }}\n  \
         - {{ name: deny-other, action: deny, ports: [85], groups: [3000] }}\n"
    );
    let of_program = |port, groups: &[u32]| {
        let bind = OracleBind {
            gid: USER,
            egid: PROGRAM,
            groups: groups.to_vec(),
            ..OracleBind::tcp(port, USER, Vec::new())
        };
        Probe::from(&bind)
    };
    let probes = [
        of_program(80, &[]),
        of_program(81, &[]),
        of_program(82, &[]),
        of_program(83, &[]),
        of_program(84, &[]),
        of_program(85, &[]),
        // A member of the group, who needs no such program.
        of_program(80, &[PROGRAM]),
    ];
    let verdicts = [
        "kernel", "kernel", "allow", "deny", "deny", "kernel", "allow",
    ];
    expect_verdicts(env, shared, &policy, &probes, &verdicts)
}

/// The binds of a user, none of root, end as these verdicts say, by each hook.
fn expect_verdicts(
    env: &TestEnv,
    shared: &mut SharedInstance,
    policy: &str,
    probes: &[Probe],
    expected: &[&str],
) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, policy)?;
        let errnos = errnos(probes)?;
        let events = instance.events()?;
        let verdicts: Vec<&str> = events
            .iter()
            .map(|event| event["verdict"].as_str().unwrap_or_default())
            .collect();
        ensure!(verdicts == expected, "{hook}: {verdicts:?}");
        let expected: Vec<i32> = expected
            .iter()
            .map(|verdict| env.enforced(hook, verdict, true, libc::EACCES))
            .collect();
        ensure!(
            errnos == expected,
            "{hook}: {errnos:?}, expected {expected:?}"
        );
    }
    Ok(())
}

/// The process is named as /proc names it, and the machine and its boot with it.
fn event_names_the_process(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let instance = shared.enforce(
        env,
        "{ version: 1, log: none, rules: [
        { name: ours, action: kernel, ports: [89], log: all },
        { name: last, action: kernel, ports: [999], log: all }] }",
    )?;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may have spaces: the fields from the third on.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat")?;
    let start_time = fields.split(' ').nth(19).context("its 22nd field")?;
    drop(UdpSocket::bind((Ipv4Addr::LOCALHOST, 89)));
    drop(UdpSocket::bind((Ipv6Addr::LOCALHOST, 89)));
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let events = instance.events()?;
    ensure!(events.len() == 2, "{events:?}");
    for (event, v6only) in events.iter().zip([json!(null), json!(false)]) {
        for (field, value) in [
            ("pid", json!(std::process::id())),
            ("ppid", json!(std::os::unix::process::parent_id())),
            ("start_time", json!(start_time.parse::<u64>()?)),
            ("v6only", v6only.clone()),
            ("several", json!(false)),
            ("mode", json!("enforce")),
            ("cgroup_cut", json!(false)),
            ("host", json!(host)),
            ("boot_id", json!(boot_id.trim_end())),
        ] {
            ensure!(event[field] == value, "{field} is not {value}: {event}");
        }
    }
    Ok(())
}

/// systemd binds in the cgroup of the .socket unit, and that cgroup counts, not the service's.
fn socket_activation(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let path = |unit: &str| ["system.slice".to_owned(), unit.to_owned()];
    let mut cgroups = Cgroups::default();
    cgroups.make(&path("pgweb.socket"))?;
    cgroups.make(&path("pgweb.service"))?;
    let instance = shared.enforce(env,
        "{ version: 1, default: deny, rules: [{ name: socket, action: allow, ports: [80], units: [pgweb.socket] }] }",
    )?;
    let bind = |unit| {
        Probe::user(0)
            .in_cgroup(path(unit).join("/"))
            .bind(Attempt::tcp(80))
    };
    let event = expect_decision(env, instance, &bind("pgweb.socket"), allow("socket"))?;
    ensure!(event["unit"] == "pgweb.socket", "{event}");
    expect_decision(env, instance, &bind("pgweb.service"), default("deny"))?;
    Ok(())
}

/// The NFS client binds a privileged port from a kernel thread, whatever the policy says.
fn nfs_mount(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        shared.enforce_by(env, hook, "{ version: 1 }")?;
        privileged_peer()
            .map_err(|error| NotApplicable(format!("by the kernel alone: {error:#}")))?;
        let instance = shared.enforce_by(env, hook, "{ version: 1, default: deny }")?;
        privileged_peer()?;
        let events = instance.events()?;
        ensure!(events.is_empty(), "{hook}: {events:?}");
    }
    Ok(())
}

/// The verb `mount-nfs`: mounts from 127.0.0.1, with both services on this port.
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

/// A process that mounts, killed when dropped: the kernel retries for minutes.
struct Mounting(Child);

impl Drop for Mounting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mounts from a server of this test, which sees the port that the kernel connects from.
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
                ensure!(from < 1024, "the kernel connected from port {from}");
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if mounting.0.try_wait()?.is_some() {
            let mut text = String::new();
            if let Some(stderr) = &mut mounting.0.stderr {
                stderr.read_to_string(&mut text)?;
            }
            bail!("mount(2): {}", text.trim());
        }
        ensure!(Instant::now() < until, "no connection to port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Under this lockdown the programs may not read what they decide by, so `run` refuses to start.
fn lockdown(_: &TestEnv) -> anyhow::Result<()> {
    std::fs::write("/sys/kernel/security/lockdown", "confidentiality")
        .map_err(|error| NotApplicable(format!("the kernel cannot be locked down: {error}")))?;
    lacks(
        "kernel lockdown: none integrity [confidentiality]",
        "boot with lockdown=integrity",
        || Ok(()),
    )
}
