//! Limits: no descriptors, no memory.

use crate::harness::Table;
use crate::harness::cgroups::Cgroups;
use crate::harness::instance::{Instance, policy_file, program};
use crate::harness::{Needs, TestEnv};
use crate::scenarios::checks::{deny, expect_decision};
use crate::scenarios::pins::{POLICY, PinCleanup, denied, directory, enforced};
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit, setrlimit};
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

pub(super) const OF_KERNEL: Table = &[("fault_no_memory", Needs::Guest, fault_no_memory)];

pub(super) const OF_DAEMON: Table = &[
    (
        "fault_descriptors_at_start",
        Needs::Guest,
        fault_descriptors_at_start,
    ),
    (
        "fault_descriptors_later",
        Needs::Guest,
        fault_descriptors_later,
    ),
];

fn fault_descriptors_at_start(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file(POLICY)?;
    // Enough for some of the maps, and for all of them.
    for limit in [12, 28] {
        let mut command = Command::new(program());
        command.args([
            "run", "--hook", "cgroup", "--socket", "/tmp/few", "--policy",
        ]);
        command.arg(policy.path());
        let few = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Nofile, few)?)) };
        let output = command.output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(3),
            "{limit} descriptors: {}: {stderr}",
            output.status
        );
        let fix = "Too many open files (os error 24); raise the limit of open files (`ulimit -n`, \
                    LimitNOFILE= of a unit)";
        ensure!(stderr.contains(fix), "{limit} descriptors: {stderr}");
    }
    Ok(())
}

/// Sets the descriptor limit of a process, which keeps those it has: the limit before.
fn descriptors(pid: u32, most: u64) -> anyhow::Result<u64> {
    let pid = Pid::from_raw(pid.cast_signed()).context("a pid")?;
    let limits = prlimit(
        Some(pid),
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: Some(4096),
        },
    )?;
    limits.current.context("there was no limit")
}

/// The lowest free descriptor number of a process.
fn lowest_free(pid: u32) -> anyhow::Result<u64> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let name = entry?.file_name();
        open.push(name.to_str().context("a number")?.parse::<u64>()?);
    }
    (0..)
        .find(|number| !open.contains(number))
        .context("there are more numbers")
}

fn fault_descriptors_later(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    let arguments = ["--pin", "--no-fold", "--check-every", "1"];
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    instance.status()?;
    let before = descriptors(instance.pid(), lowest_free(instance.pid())?)?;
    instance.wait_for("the hooks cannot be checked: cannot make the canary bind")?;
    instance.signal(Signal::HUP)?;
    instance.wait_for("reload failed, keeping the previous policy")?;
    enforced(env, hook)?;
    expect_decision(env, &instance, &denied(), deny("no-root"))?;
    // A request made now is answered once a descriptor is free.
    let mut asking = instance.command(&["status", "--json"]);
    let asking = asking.stdout(Stdio::piped()).spawn()?;
    instance.wait_for("cannot accept clients")?;
    descriptors(instance.pid(), before)?;
    let output = asking.wait_with_output()?.stdout;
    let status: Value = serde_json::from_slice(&output).context("no answer to status")?;
    ensure!(status["reloads"]["failed"] == 1, "{status}");
    instance.wait_for("hooks restored")?;
    instance.signal(Signal::HUP)?;
    instance.wait_for("is in force")?;
    let stderr = &instance.stderr;
    ensure!(
        stderr.contains("Too many open files"),
        "no reason: {stderr}"
    );
    ensure!(
        !stderr.contains("enforcement degraded"),
        "a false alarm: {stderr}"
    );
    let status = instance.status()?;
    ensure!(
        status["enforcing"] == "enforce" && status["reattached"] == 0,
        "{status}"
    );
    ensure!(directory()?.join("META").exists(), "the pins are gone");
    instance.end(Signal::KILL)?;
    enforced(env, hook)
}

/// Groups, each of which takes more than half a kilobyte in a map.
const GROUPS: u32 = 32_000;

/// [`POLICY`] and a rule that takes much memory in the kernel and little in the daemon.
fn large() -> String {
    let mut text = String::from(POLICY);
    text.push_str("  - { name: many, action: deny, ports: [83], groups: [");
    for number in 0..GROUPS {
        // No two are adjacent, or they would be one entry.
        let _ = write!(text, "{},", 100_001 + 2 * number);
    }
    text.push_str("] }\n");
    text
}

/// Bytes of locked memory, too few to start portguard.
const LITTLE: u64 = 64 << 10;

/// A portguard whose maps are charged to a cgroup with a memory limit.
fn in_cgroup(env: &TestEnv, cgroups: &mut Cgroups, name: &str) -> anyhow::Result<Instance> {
    std::fs::write(env.cgroups.join("cgroup.subtree_control"), "+memory")?;
    cgroups.make(&[name.to_owned()])?;
    let enter = |path: std::path::PathBuf| std::fs::write(path.join("cgroup.procs"), "0");
    enter(env.cgroups.join(name))?;
    let hook = env.auto_hook();
    let started = Instance::start_prepared(env, POLICY, hook, &["--no-fold"], |command, _| {
        // aya raises this limit once, where a map needs it (Linux before 5.11). It must do so at the start: an inherited
        // limit may be unlimited, and then it would do so at the reload.
        let little = limit_of_locked(LITTLE);
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Memlock, little)?)) };
        Ok(())
    });
    enter(env.cgroups.clone())?;
    let instance = started?;
    // The maps stay charged to that cgroup, the daemon's own memory does not: only map entries can fail.
    let pid = instance.pid().to_string();
    std::fs::write(env.cgroups.join("cgroup.procs"), pid)?;
    Ok(instance)
}

fn fault_no_memory(env: &TestEnv) -> anyhow::Result<()> {
    let name = format!("pgmemory-{}", std::process::id());
    let mut cgroups = Cgroups::default();
    let mut instance = in_cgroup(env, &mut cgroups, &name)?;
    let large = large();
    let hook = instance.hook;
    let before = instance.status()?;
    let limit = Limit::new(env, &instance, &name)?;
    instance.change(&large)?;
    instance.wait_for("reload failed, keeping the previous policy")?;
    let stderr = &instance.stderr;
    ensure!(
        stderr.contains(limit.message()),
        "not {:?}: {stderr}",
        limit.message()
    );
    enforced(env, hook)?;
    let status = instance.status()?;
    ensure!(
        status["policy"] == before["policy"] && status["reloads"]["failed"] == 1,
        "{status}"
    );
    limit.lift(env, &instance, &name)?;
    instance.signal(Signal::HUP)?;
    instance.wait_for("is in force")?;
    enforced(env, hook)?;
    instance.stop()?;
    Ok(())
}

/// The limit on the memory of maps.
enum Limit {
    /// `memory.max` of the cgroup (Linux 5.11).
    Cgroup,
    /// `RLIMIT_MEMLOCK`, on older kernels.
    Locked,
}

impl Limit {
    fn new(env: &TestEnv, instance: &Instance, name: &str) -> anyhow::Result<Self> {
        if env.kernel < (5, 11) {
            locked(instance, 0)?;
            return Ok(Self::Locked);
        }
        let at = env.cgroups.join(name);
        let now: u64 = std::fs::read_to_string(at.join("memory.current"))?
            .trim()
            .parse()?;
        std::fs::write(at.join("memory.max"), (now + (4 << 20)).to_string())?;
        Ok(Self::Cgroup)
    }

    const fn message(&self) -> &'static str {
        match self {
            Self::Cgroup => "Cannot allocate memory (os error 12); free memory, or raise the limit",
            Self::Locked => "Operation not permitted (os error 1)",
        }
    }

    fn lift(self, env: &TestEnv, instance: &Instance, name: &str) -> anyhow::Result<()> {
        match self {
            Self::Cgroup => Ok(std::fs::write(
                env.cgroups.join(name).join("memory.max"),
                "max",
            )?),
            Self::Locked => locked(instance, 1 << 32),
        }
    }
}

/// A soft limit in bytes, with a hard limit above it.
const fn limit_of_locked(most: u64) -> Rlimit {
    Rlimit {
        current: Some(most),
        maximum: Some(1 << 32),
    }
}

fn locked(instance: &Instance, most: u64) -> anyhow::Result<()> {
    let pid = Pid::from_raw(instance.pid().cast_signed()).context("a pid")?;
    prlimit(Some(pid), Resource::Memlock, limit_of_locked(most))?;
    Ok(())
}
