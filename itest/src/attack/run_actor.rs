//! The process of an actor: its steps, its sockets, its binds; the results go to stdout.

use super::actors::{ACTORS, Actor, Step};
use super::entry_points::{ENTRY_POINTS, Setup};
use super::policy::{PORTS, port};
use crate::harness::cgroups::enter;
use crate::harness::probe::{Attempt, BindResult};
use crate::harness::probe_child::bind_via;
use crate::harness::raw_syscalls;
use anyhow::{Context as _, anyhow};
use rustix::net::sockopt::set_socket_reuseport;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

/// A bind of an actor.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ActorBind {
    /// Index in [`ENTRY_POINTS`].
    pub(super) entry_point: usize,
    /// Index in [`PORTS`].
    pub(super) ports: usize,
    /// The process that made the bind.
    pub(super) pid: u32,
    pub(super) result: BindResult,
}

#[derive(Clone, Copy)]
struct Runner<'a> {
    index: usize,
    actor: &'static Actor,
    /// The suite's cgroup.
    root: &'a Path,
}

/// A socket with the bind that it is for.
struct Open {
    entry_point: usize,
    ports: usize,
    attempt: Attempt,
    socket: Result<OwnedFd, i32>,
}

/// The verb `attack`: runs an actor from its step `position` on.
pub fn run(index: usize, root: &Path, position: usize) -> anyhow::Result<()> {
    let actor = ACTORS.get(index).context("there is no such actor")?;
    let runner = Runner { index, actor, root };
    be_dumpable()?;
    if position == 0 {
        set_thread_groups(&[])?;
    }
    runner.before(position)
}

impl Runner<'_> {
    /// Takes the steps before the socket from `position` on, and continues.
    fn before(self, position: usize) -> anyhow::Result<()> {
        let Some(step) = self.actor.before.get(position) else {
            return self.after(0, self.sockets());
        };
        let next = position + 1;
        match *step {
            Step::SetUid(owner) => Err(self.exec_setuid(owner, next)?),
            Step::ThreadOf(leader) => self.thread(|| set_uids(leader, leader, leader), next),
            Step::ThreadLeaderIn(path) => {
                self.thread(|| enter(&self.root.join(path), "cgroup.threads"), next)
            }
            step => {
                self.step(step)?;
                self.before(next)
            }
        }
        .with_context(|| format!("{step:?}"))
    }

    /// Takes the steps after the socket from `position` on, and binds.
    fn after(self, position: usize, sockets: Vec<Open>) -> anyhow::Result<()> {
        let Some(step) = self.actor.after.get(position) else {
            return bind_all(&sockets);
        };
        if matches!(step, Step::Fork) {
            let status = raw_syscalls::in_child(|| self.after(position + 1, sockets).map(|()| 0))?;
            anyhow::ensure!(status == 0, "the child ended with {status}");
            return Ok(());
        }
        self.step(*step).with_context(|| format!("{step:?}"))?;
        self.after(position + 1, sockets)
    }

    /// A step of this thread alone.
    fn step(self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Cgroup(path) => enter(&self.root.join(path), "cgroup.procs"),
            Step::ThreadCgroup(path) => enter(&self.root.join(path), "cgroup.threads"),
            Step::Uids(real, effective, saved) => set_uids(real, effective, saved),
            Step::Netns => Ok(raw_syscalls::unshare(libc::CLONE_NEWNET)?),
            Step::HostNetns => {
                let host = fs::File::open("/proc/1/ns/net")?;
                let kind = Some(LinkNameSpaceType::Network);
                Ok(move_into_link_name_space(host.as_fd(), kind)?)
            }
            Step::Userns => become_root_of(libc::CLONE_NEWUSER),
            Step::UsernsAndNetns => become_root_of(libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
            Step::Fork | Step::ThreadOf(_) | Step::ThreadLeaderIn(_) | Step::SetUid(_) => {
                Err(anyhow!("not a step of one thread"))
            }
        }
    }

    /// Continues in a second thread after the first has changed itself.
    fn thread(
        self,
        leader: impl FnOnce() -> anyhow::Result<()>,
        position: usize,
    ) -> anyhow::Result<()> {
        let (ready, wait) = mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(move || {
                wait.recv().context("the first thread failed")?;
                self.before(position)
            });
            leader()?;
            ready.send(()).context("the second thread is gone")?;
            second
                .join()
                .map_err(|_| anyhow!("the second thread panicked"))?
        })
    }

    /// Continues in a copy of this program that is set-user-ID for `owner`; returns only on failure.
    fn exec_setuid(self, owner: u32, position: usize) -> anyhow::Result<anyhow::Error> {
        let error = Command::new(setuid_copy(owner))
            .args(["attack", &self.index.to_string()])
            .arg(self.root)
            .arg(position.to_string())
            .exec();
        Ok(error.into())
    }

    fn sockets(self) -> Vec<Open> {
        let every = ENTRY_POINTS.iter().enumerate();
        every
            .flat_map(|(number, entry_point)| {
                (0..PORTS.len()).map(move |ports| {
                    let attempt = entry_point.attempt(port(number, ports), !self.actor.host_netns);
                    let socket =
                        raw_syscalls::socket(attempt.domain, attempt.kind, attempt.protocol);
                    Open {
                        entry_point: number,
                        ports,
                        socket: socket.and_then(|socket| set_up(socket, entry_point.setup)),
                        attempt,
                    }
                })
            })
            .collect()
    }
}

/// The path of the copy of this program that is set-user-ID for a user.
fn setuid_copy(owner: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/portguard-itest-setuid-{owner}"))
}

/// Makes a copy of this program that is set-user-ID for a user, removed when dropped.
pub(super) fn make_setuid_copy(owner: u32) -> anyhow::Result<tempfile::TempPath> {
    let path = setuid_copy(owner);
    fs::copy("/proc/self/exe", &path)?;
    let path = tempfile::TempPath::try_from_path(path)?;
    chown(&path, Some(owner), None)?;
    // After chown(2), which clears the bit.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755))?;
    Ok(path)
}

fn set_uids(real: u32, effective: u32, saved: u32) -> anyhow::Result<()> {
    // Of this thread alone: libc would change all threads.
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).or_else(|error| {
        // A thread that gave up root already has gid 0.
        if error == rustix::io::Errno::PERM {
            Ok(())
        } else {
            Err(error)
        }
    })?;
    let [real, effective, saved] = [real, effective, saved].map(Uid::from_raw);
    set_thread_res_uid(real, effective, saved)?;
    be_dumpable()
}

/// Makes /proc/self accessible again after a change of ids.
fn be_dumpable() -> anyhow::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// Creates a user namespace, perhaps with others, and becomes its uid 0.
fn become_root_of(flags: i32) -> anyhow::Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    raw_syscalls::unshare(flags)?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("uid_map")
}

fn set_up(socket: OwnedFd, setup: Setup) -> Result<OwnedFd, i32> {
    const TCP_REPAIR: i32 = 19;
    const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
    match setup {
        Setup::Plain => {}
        Setup::ReusePort => {
            set_socket_reuseport(&socket, true).map_err(|error| error.raw_os_error())?;
        }
        Setup::Repair => {
            raw_syscalls::set_option(socket.as_fd(), libc::IPPROTO_TCP, TCP_REPAIR, 1)?
        }
        Setup::NoPort => {
            raw_syscalls::set_option(socket.as_fd(), libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)?
        }
    }
    Ok(socket)
}

fn bind_all(sockets: &[Open]) -> anyhow::Result<()> {
    let binds: Vec<ActorBind> = sockets
        .iter()
        .map(|open| {
            let (pid, result) = bind_one(open);
            ActorBind {
                entry_point: open.entry_point,
                ports: open.ports,
                pid,
                result,
            }
        })
        .collect();
    println!("{}", serde_json::to_string(&binds)?);
    Ok(())
}

fn bind_one(open: &Open) -> (u32, BindResult) {
    match &open.socket {
        Err(errno) => (std::process::id(), BindResult::NoSocket(*errno)),
        Ok(socket) => bind_via(&open.attempt, socket.as_fd()),
    }
}
