//! File systems: full, missing, read-only, unmounted; files that vanish or are replaced.

use crate::harness::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::events::decisions;
use crate::harness::instance::{Instance, daemon_program, policy_file, program};
use crate::harness::{Needs, TestEnv};
use crate::scenarios::checks::{allow, deny, expect_decision};
use crate::scenarios::missing_features::in_own_mounts;
use crate::scenarios::pins::{POLICY, PinCleanup, denied, enforced, granted, pinned};
use anyhow::{Context as _, ensure};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use rustix::process::Signal;
use std::fs::{File, read_to_string};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub(super) const TESTS: Table = &[
    ("fault_full_disk", Needs::Guest, fault_full_disk),
    ("fault_no_bpffs", Needs::Nothing, fault_no_bpffs),
    ("fault_bpffs_unmounted", Needs::Guest, fault_bpffs_unmounted),
    ("fault_read_only_run", Needs::Nothing, fault_read_only_run),
    (
        "fault_policy_directory",
        Needs::Guest,
        fault_policy_directory,
    ),
    ("fault_binary_replaced", Needs::Guest, fault_binary_replaced),
];

/// A file system of a few pages, unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    fn new() -> anyhow::Result<Self> {
        let disk = Self(tempfile::tempdir()?);
        mount(
            "none",
            disk.0.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=64k"),
        )?;
        Ok(disk)
    }

    fn grow(&self) -> anyhow::Result<()> {
        Ok(mount_remount(
            self.0.path(),
            MountFlags::empty(),
            c"size=4m",
        )?)
    }

    fn lines(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let text = read_to_string(self.0.path().join(name))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.0.path(), UnmountFlags::DETACH) {
            eprintln!("the disk of the test: {error}");
        }
    }
}

fn fault_full_disk(env: &TestEnv) -> anyhow::Result<()> {
    let disk = Disk::new()?;
    let target = disk.0.path().join("decisions.jsonl");
    let sink = format!("file:{}", target.display());
    let arguments = ["--no-fold", "--sink", "stdout", "--sink", &sink];
    let hook = env.auto_hook();
    let output = disk.0.path().join("stdout.jsonl");
    let mut instance = Instance::start_prepared(env, POLICY, hook, &arguments, |command, _| {
        command.stdout(File::create(&output)?);
        Ok(())
    })?;
    let binds = 1_000;
    let ended = BindLoad::start(3, 81, binds).join()?;
    ensure!(
        ended.get(&env.denial(hook)) == Some(&binds),
        "not all are refused: {ended:?}"
    );
    for sink in ["file", "stdout"] {
        if !instance.stderr.contains(&format!(
            "sink {sink}: cannot write decisions: No space left"
        )) {
            instance.wait_for(&format!(
                "sink {sink}: cannot write decisions: No space left"
            ))?;
        }
    }
    enforced(env, hook)?;
    disk.grow()?;
    enforced(env, hook)?;
    for sink in ["file", "stdout"] {
        if !instance
            .stderr
            .contains(&format!("sink {sink}: works again"))
        {
            instance.wait_for(&format!("sink {sink}: works again"))?;
        }
    }
    let status = instance.status()?;
    instance.stop()?;
    let denied = binds + 2;
    for (name, sink) in [("decisions.jsonl", "file"), ("stdout.jsonl", "stdout")] {
        let dropped = status["dropped"][sink].as_u64().context("dropped")?;
        let lines = disk.lines(name)?;
        // A line cut short by the full disk would not be JSON.
        let all = decisions(&lines, Some("deny"))? + decisions(&lines, Some("allow"))? + dropped;
        ensure!(
            dropped > 0 && all == denied + 2,
            "{dropped} dropped, {all} of {} accounted for in {name}",
            denied + 2
        );
    }
    Ok(())
}

fn fault_no_bpffs(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file(POLICY)?;
    let mut command = Command::new(program());
    command.args([
        "run",
        "--pin",
        "--socket",
        "/tmp/portguard-no-bpffs",
        "--policy",
    ]);
    command.arg(policy.path());
    in_own_mounts(&mut command, || {
        mount("none", "/sys/fs/bpf", "tmpfs", MountFlags::empty(), None)
    });
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let fix = "mount -t bpf -o mode=0700 bpf /sys/fs/bpf, or run without --pin";
    ensure!(
        output.status.code() == Some(3) && stderr.contains(fix),
        "{}: {stderr}",
        output.status
    );
    Ok(())
}

fn fault_bpffs_unmounted(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    let instance = pinned(env, hook)?;
    let unmounted = unmount("/sys/fs/bpf", UnmountFlags::empty());
    if unmounted.is_ok() {
        mount(
            "bpf",
            "/sys/fs/bpf",
            "bpf",
            MountFlags::empty(),
            Some(c"mode=0700"),
        )?;
    }
    ensure!(unmounted == Err(Errno::BUSY), "{unmounted:?}");
    expect_decision(env, &instance, &denied(), deny("no-root"))?;
    instance.stop()?;
    enforced(env, hook)
}

fn fault_read_only_run(env: &TestEnv) -> anyhow::Result<()> {
    let hook = env.auto_hook();
    let arguments = ["--no-fold"];
    let instance = Instance::start_prepared(env, POLICY, hook, &arguments, |command, socket| {
        let run: PathBuf = socket.parent().context("a directory")?.into();
        in_own_mounts(command, move || {
            mount_bind(&run, &run)?;
            mount_remount(&run, MountFlags::BIND | MountFlags::RDONLY, c"")
        });
        Ok(())
    })?;
    let expected =
        "Read-only file system (os error 30); continuing without monitor, status and reload";
    ensure!(instance.stderr.contains(expected), "{}", instance.stderr);
    expect_decision(env, &instance, &granted(), allow("web"))?;
    expect_decision(env, &instance, &denied(), deny("no-root"))?;
    // SIGHUP still reloads.
    instance.signal(Signal::HUP)?;
    let mut instance = instance;
    instance.wait_for("is in force")?;
    instance.stop()?;
    Ok(())
}

fn fault_policy_directory(env: &TestEnv) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let (here, gone) = (
        place.path().join("policies"),
        place.path().join("elsewhere"),
    );
    std::fs::create_dir(&here)?;
    std::fs::write(
        here.join("more.yaml"),
        "{ version: 1, rules: [{ name: more, action: deny, ports: [82] }] }",
    )?;
    let directory = here.to_str().context("the directory")?;
    let address = "127.0.0.1:19464";
    let arguments = ["--no-fold", "--policy", directory, "--metrics", address];
    let hook = env.auto_hook();
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    let before = instance.status()?;
    std::fs::rename(&here, &gone)?;
    instance.wait_for("reload failed, keeping the previous policy")?;
    enforced(env, hook)?;
    let status = instance.status()?;
    let error = status["reloads"]["error"].as_str().context("no error")?;
    ensure!(
        error.contains(directory) && status["policy"] == before["policy"],
        "{status}"
    );
    ensure!(
        metrics(address)?.contains("\nportguard_reload_failed 1\n"),
        "the metrics do not report it"
    );
    std::fs::rename(&gone, &here)?;
    instance.wait_for("is in force")?;
    let status = instance.status()?;
    ensure!(
        status["reloads"]["error"].is_null()
            && status["policy"]["hash"] == before["policy"]["hash"],
        "{status}"
    );
    ensure!(
        metrics(address)?.contains("\nportguard_reload_failed 0\n"),
        "the metrics still report it"
    );
    instance.stop()?;
    Ok(())
}

/// The text of the metrics.
fn metrics(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The binary, replaced by another file until this is dropped.
struct Replaced {
    aside: PathBuf,
    place: PathBuf,
}

impl Replaced {
    /// Replaces it by a text file.
    fn new(place: &Path) -> anyhow::Result<Self> {
        let aside = place.with_extension("aside");
        std::fs::copy(place, &aside)?;
        std::fs::remove_file(place)?;
        let replaced = Self {
            aside,
            place: place.into(),
        };
        std::fs::write(place, "not a program\n")?;
        Ok(replaced)
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Err(error) = std::fs::rename(&self.aside, &self.place) {
            eprintln!("{}: {error}", self.place.display());
        }
    }
}

fn fault_binary_replaced(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    let arguments = ["--pin", "--no-fold", "--check-every", "1"];
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    let replaced = Replaced::new(&daemon_program())?;
    expect_decision(env, &instance, &granted(), allow("web"))?;
    instance.signal(Signal::HUP)?;
    instance.wait_for("is in force")?;
    // The daemon can still load its programs.
    let pin = crate::scenarios::pins::directory()?.join("link_bind4");
    crate::harness::foreign_links::detach(&pin)?;
    instance.wait_for("hooks re-attached")?;
    enforced(env, hook)?;
    drop(replaced);
    instance.stop()?;
    enforced(env, hook)?;
    let next = pinned(env, hook)?;
    ensure!(next.stderr.contains("took over"), "{}", next.stderr);
    next.stop()?;
    Ok(())
}
