//! A bpffs in which every user can make entries, as `mount -t bpf` makes it: what another user put where the pins
//! belong is refused, and neither followed nor removed. Each command has a mount namespace and a bpffs of its own.

use super::decisions::POLICY;
use super::missing_features::in_own_mounts;
use crate::harness::Table;
use crate::harness::instance::{policy_file, program};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use portguard::kernel::PINS;
use rustix::fs::{FlockOperation, Mode, OFlags, chmod, flock, mkdir, open, symlink};
use rustix::io::Result;
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::os::fd::IntoRawFd as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    (
        "pins_of_another_user_are_left_alone",
        Needs::Nothing,
        of_another_user,
    ),
    (
        "pins_behind_a_link_are_left_alone",
        Needs::Nothing,
        behind_a_link,
    ),
    (
        "pins_in_a_bpffs_open_to_all_are_refused",
        Needs::Nothing,
        open_to_all,
    ),
    (
        "pins_lock_is_out_of_reach_of_other_users",
        Needs::Nothing,
        lock_out_of_reach,
    ),
];

const BPFFS: &str = "/sys/fs/bpf";
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes files as a user without capabilities for the time of `make`.
fn as_nobody<T>(make: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: changes the uid of this thread's file accesses, and back.
    unsafe { libc::setfsuid(NOBODY) };
    let made = make();
    // SAFETY: as above.
    unsafe { libc::setfsuid(0) };
    made
}

fn bpffs(mode: &std::ffi::CStr) -> Result<()> {
    mount("bpf", BPFFS, "bpf", MountFlags::empty(), Some(mode))
}

/// What a command says, started where `prepare` was called.
fn output(
    arguments: &[&str],
    prepare: impl Fn() -> Result<()> + Send + Sync + 'static,
) -> anyhow::Result<Output> {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    in_own_mounts(&mut command, prepare);
    let mut child = command.spawn().context("portguard")?;
    // A `run` that does not refuse goes on.
    let until = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    Ok(child.wait_with_output()?)
}

/// `run --pin` and `detach` end with 3 and say `expected`, and `doctor` says it as a warning; a directory that `prepare` can
/// link to keeps its file.
fn refused(
    expected: &str,
    prepare: impl Fn(&Path) -> Result<()> + Clone + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let target = place.path().join("target");
    fs::create_dir_all(target.join("below"))?;
    let file = target.join("below/kept");
    fs::write(&file, "kept")?;
    let policy = policy_file(POLICY)?;
    let policy = policy.path().to_str().context("the policy's path")?;
    let socket = place.path().join("socket");
    let socket = socket.to_str().context("the socket's path")?;
    let run = ["run", "--pin", "--policy", policy, "--socket", socket];
    for arguments in [&run[..], &["detach", "--socket", socket], &["doctor"]] {
        let (prepare, target) = (prepare.clone(), target.clone());
        let output = output(arguments, move || prepare(&target))?;
        let text = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned();
        let code = output.status.code();
        ensure!(file.exists(), "{arguments:?} removed the file: {text}");
        ensure!(text.contains(expected), "{arguments:?}: {text}");
        ensure!(
            code == Some(3) || arguments == ["doctor"],
            "{arguments:?}: exit code {code:?}: {text}"
        );
    }
    Ok(())
}

fn of_another_user(_: &TestEnv) -> anyhow::Result<()> {
    let expected = "/sys/fs/bpf/portguard belongs to uid 65534";
    refused(expected, |target| {
        bpffs(c"mode=1777")?;
        as_nobody(|| {
            mkdir(PINS, Mode::from_raw_mode(0o777))?;
            symlink(target, "/sys/fs/bpf/portguard/v1")
        })
    })?;
    refused("/sys/fs/bpf/portguard_lock belongs to uid 65534", |_| {
        bpffs(c"mode=1777")?;
        mkdir(PINS, Mode::from_raw_mode(0o700))?;
        as_nobody(|| mkdir("/sys/fs/bpf/portguard_lock", Mode::from_raw_mode(0o777)))
    })
}

fn behind_a_link(_: &TestEnv) -> anyhow::Result<()> {
    refused("/sys/fs/bpf/portguard is a symbolic link", |target| {
        bpffs(c"mode=1777")?;
        as_nobody(|| symlink(target, PINS))
    })?;
    // Left from a time when others could write there.
    refused("/sys/fs/bpf/portguard/v1 is a symbolic link", |target| {
        bpffs(c"mode=1777")?;
        mkdir(PINS, Mode::from_raw_mode(0o777))?;
        chmod(PINS, Mode::from_raw_mode(0o777))?;
        as_nobody(|| symlink(target, "/sys/fs/bpf/portguard/v1"))?;
        chmod(PINS, Mode::from_raw_mode(0o700))
    })
}

fn open_to_all(_: &TestEnv) -> anyhow::Result<()> {
    refused("/sys/fs/bpf has mode 0777", |_| {
        // The kernel makes it sticky, whatever mode is given.
        bpffs(c"mode=0777")?;
        chmod(BPFFS, Mode::from_raw_mode(0o777))?;
        mkdir(PINS, Mode::from_raw_mode(0o700))
    })?;
    let expected = "/sys/fs/bpf/portguard has mode 0757";
    refused(expected, |_| {
        bpffs(c"mode=0700")?;
        mkdir(PINS, Mode::from_raw_mode(0o700))?;
        chmod(PINS, Mode::from_raw_mode(0o757))
    })?;
    // Sticky: what is root's there stays. `doctor` warns all the same.
    let told = output(&["doctor"], || bpffs(c"mode=1777"))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(
        told.contains("mode 1777") && told.contains("fix: chmod 0700 /sys/fs/bpf"),
        "{told}"
    );
    let fine = output(&["doctor"], || bpffs(c"mode=0700"))?;
    let fine = String::from_utf8_lossy(&fine.stdout).into_owned();
    ensure!(
        fine.contains("ok       pins are out of reach") && fine.contains("mode 1700"),
        "{fine}"
    );
    Ok(())
}

/// A user who can open the directory locks it, and keeps nobody out.
fn lock_out_of_reach(_: &TestEnv) -> anyhow::Result<()> {
    let detach = ["detach", "--socket", "/nonexistent/socket"];
    let ended = output(&detach, || {
        bpffs(c"mode=1777")?;
        mkdir(PINS, Mode::from_raw_mode(0o755))?;
        as_nobody(|| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory = open(PINS, flags, Mode::empty())?;
            flock(&directory, FlockOperation::LockExclusive)?;
            // The program inherits it, and with it the lock.
            let _inherited = directory.into_raw_fd();
            Ok(())
        })
    })?;
    let text = String::from_utf8_lossy(&[ended.stderr, ended.stdout].concat()).into_owned();
    ensure!(
        ended.status.code() == Some(0) && text.contains("removed the pins"),
        "{}: {text}",
        ended.status
    );
    Ok(())
}
