//! `run` and `doctor` on a machine that lacks a feature, hidden by mounts in a new mount namespace.

use super::decisions::POLICY;
use crate::harness::Table;
use crate::harness::instance::{policy_file, program};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub(super) const TESTS: Table = &[
    ("missing_cgroup_v2", Needs::Nothing, missing_cgroup_v2),
    ("missing_btf", Needs::Nothing, missing_btf),
];

fn missing_cgroup_v2(env: &TestEnv) -> anyhow::Result<()> {
    let root = env.cgroups.clone();
    lacks("cgroup v2: not mounted", "mount -t cgroup2", move || {
        unmount(&root, UnmountFlags::DETACH)
    })
}

fn missing_btf(_: &TestEnv) -> anyhow::Result<()> {
    let expected = "the kernel's BTF: cannot read /sys/kernel/btf/vmlinux";
    lacks(expected, "CONFIG_DEBUG_INFO_BTF=y", || {
        mount(
            "none",
            "/sys/kernel/btf",
            "tmpfs",
            MountFlags::empty(),
            None,
        )
    })
}

/// `run` and `doctor` exit with 3 and name what is missing and the fix.
pub(super) fn lacks(
    expected: &str,
    fix: &str,
    take_away: impl Fn() -> rustix::io::Result<()> + Clone + Send + Sync + 'static,
) -> anyhow::Result<()> {
    outputs_without(expected, fix, take_away).map(drop)
}

/// The same, with all that both print.
pub(super) fn outputs_without(
    expected: &str,
    fix: &str,
    take_away: impl Fn() -> rustix::io::Result<()> + Clone + Send + Sync + 'static,
) -> anyhow::Result<String> {
    let mut all = String::new();
    let policy = policy_file(POLICY)?;
    let path = policy.path().to_str().context("the policy's path")?;
    for arguments in [&["run", "--policy", path][..], &["doctor"]] {
        let take_away = take_away.clone();
        let mut command = Command::new(program());
        command.args(arguments);
        in_own_mounts(&mut command, take_away);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned();
        let code = output.status.code();
        ensure!(code == Some(3), "{arguments:?}: exit code {code:?}: {text}");
        ensure!(text.contains(fix), "{arguments:?}: no fix: {text}");
        if arguments[0] == "run" {
            ensure!(text.contains(expected), "{arguments:?}: {text}");
        }
        all += &text;
    }
    Ok(all)
}

/// Has a command start in a new mount namespace, changed by system calls alone.
pub(super) fn in_own_mounts(
    command: &mut Command,
    change: impl Fn() -> rustix::io::Result<()> + Send + Sync + 'static,
) {
    let prepare = move || {
        // SAFETY: the child of a fork, about to exec, shares no descriptor table.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )?;
        Ok(change()?)
    };
    // SAFETY: system calls alone between fork and exec.
    unsafe { command.pre_exec(prepare) };
}
