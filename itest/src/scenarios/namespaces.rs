//! `run` in namespaces of its own, as in a container: it guards the host, or does not say that it is ready.

use super::checks::{allow, deny, expect_decision};
use super::decisions::POLICY;
use super::missing_features::{in_own_mounts, lacks, outputs_without};
use crate::harness::cgroups::Cgroups;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, Table, TestEnv};
use anyhow::ensure;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, write};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::path::PathBuf;

pub(super) const TESTS: Table = &[
    (
        "namespace_cgroup_with_its_own_tree",
        Needs::Nothing,
        cgroup_with_its_own_tree,
    ),
    (
        "namespace_cgroup_with_the_hosts_tree",
        Needs::Nothing,
        cgroup_with_the_hosts_tree,
    ),
    ("namespace_network", Needs::Nothing, network),
    ("namespace_pid", Needs::Nothing, pid),
    ("namespace_user", Needs::Nothing, user),
];

/// A cgroup whose processes are put into a cgroup namespace.
struct Container {
    directory: PathBuf,
    _cgroups: Cgroups,
}

impl Container {
    fn new(env: &TestEnv) -> anyhow::Result<Self> {
        let name = format!("pgtest-container-{}", std::process::id());
        let mut cgroups = Cgroups::default();
        cgroups.make(std::slice::from_ref(&name))?;
        Ok(Self {
            directory: env.cgroups.join(name),
            _cgroups: cgroups,
        })
    }

    /// Moves the calling process into it, and makes it the root of a cgroup namespace.
    fn enter(&self) -> impl Fn() -> rustix::io::Result<()> + Clone + Send + Sync + use<> {
        let file = self.directory.join("cgroup.procs");
        move || {
            let file = open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            write(&file, b"0")?;
            unshare(UnshareFlags::NEWCGROUP)
        }
    }
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the child of a fork, about to exec, shares no descriptor table.
    unsafe { unshare_unsafe(flags) }
}

/// As container engines mount it: the root is the container's cgroup.
fn cgroup_with_its_own_tree(env: &TestEnv) -> anyhow::Result<()> {
    let container = Container::new(env)?;
    let (enter, tree) = (container.enter(), env.cgroups.clone());
    let text = outputs_without(
        "is a part of the host's tree",
        "--cgroupns=host",
        move || {
            enter()?;
            unmount(&tree, UnmountFlags::DETACH)?;
            mount("cgroup2", &tree, "cgroup2", MountFlags::empty(), None)
        },
    )?;
    ensure!(!text.contains("mount -t cgroup2"), "{text}");
    ensure!(!text.contains("ready"), "{text}");
    Ok(())
}

/// The host's root is `/..` in mountinfo. Binds outside the container are decided.
fn cgroup_with_the_hosts_tree(env: &TestEnv) -> anyhow::Result<()> {
    let container = Container::new(env)?;
    let hook = env.auto_hook();
    let instance = Instance::start_prepared(env, POLICY, hook, &["--no-fold"], |command, _| {
        in_own_mounts(command, container.enter());
        Ok(())
    })?;
    guards_the_host(env, &instance)?;
    instance.stop()?;
    Ok(())
}

fn guards_the_host(env: &TestEnv, instance: &Instance) -> anyhow::Result<()> {
    let web = Probe::user(33).bind(Attempt::tcp(80));
    let event = expect_decision(env, instance, &web, allow("web"))?;
    ensure!(event["cgroup"] == "/", "{event}");
    let root = Probe::user(0).bind(Attempt::tcp(81));
    expect_decision(env, instance, &root, deny("no-root"))?;
    Ok(())
}

/// `scope: host` means the host's network namespace, or nothing does.
fn network(env: &TestEnv) -> anyhow::Result<()> {
    let enter = || unshare(UnshareFlags::NEWNET);
    // A sandbox may hide the namespace of process 1 even from root.
    if std::fs::metadata("/proc/1/ns/net").is_err() {
        return lacks(
            "the host's namespaces: portguard runs in network namespace",
            "--network=host",
            enter,
        );
    }
    let hook = env.auto_hook();
    let instance = Instance::start_prepared(env, POLICY, hook, &["--no-fold"], |command, _| {
        in_own_mounts(command, enter);
        Ok(())
    })?;
    guards_the_host(env, &instance)?;
    instance.stop()?;
    Ok(())
}

fn pid(_: &TestEnv) -> anyhow::Result<()> {
    lacks(
        "portguard runs in a pid namespace of its own",
        "hostPID: true",
        || {
            unshare(UnshareFlags::NEWPID)?;
            become_the_child()?;
            mount("proc", "/proc", "proc", MountFlags::empty(), None)
        },
    )
}

fn user(_: &TestEnv) -> anyhow::Result<()> {
    lacks(
        "portguard runs in a user namespace",
        "--userns=host",
        || unshare(UnshareFlags::NEWUSER),
    )
}

/// Forks; the parent ends as the child does. The first child of a process that made a pid namespace is its process 1.
fn become_the_child() -> rustix::io::Result<()> {
    let mut status = 0;
    // SAFETY: the caller has one thread, and so has the child.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(Errno::AGAIN);
    }
    if child == 0 {
        return set_parent_process_death_signal(Some(Signal::KILL));
    }
    // SAFETY: `status` outlives the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    // SAFETY: ends this process, which has only waited.
    unsafe { libc::_exit(libc::WEXITSTATUS(status)) }
}
