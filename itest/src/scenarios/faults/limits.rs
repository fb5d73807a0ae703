//! Faults of limits: no descriptors, no memory.

use crate::harness::bind_runner::Cgroups;
use crate::harness::instance::{Instance, policy_file, program};
use crate::harness::{Needs, TestEnv};
use crate::scenarios::Table;
use crate::scenarios::checks::{deny, judged};
use crate::scenarios::pins::{POLICY, PinCleanup, denied, directory, enforced};
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit, setrlimit};
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

pub(super) const TESTS: Table = &[
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
    ("fault_no_memory", Needs::Guest, fault_no_memory),
];

fn fault_descriptors_at_start(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file(POLICY)?;
    // In the middle of the maps, and behind them.
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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(3),
            "{limit} descriptors: {}: {said}",
            output.status
        );
        let mend = "Too many open files (os error 24); raise the limit of open files (`ulimit -n`, \
                    LimitNOFILE= of a unit)";
        ensure!(said.contains(mend), "{limit} descriptors: {said}");
    }
    Ok(())
}

/// Lets a process have this many descriptors; what it has already, it keeps. How many it might have before.
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

/// The lowest number that no descriptor of a process has.
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
    let _tidy = PinCleanup;
    let hook = env.auto_hook();
    let arguments = ["--pin", "--no-fold", "--check-every", "1"];
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    instance.status()?;
    let before = descriptors(instance.pid(), lowest_free(instance.pid())?)?;
    instance.wait_for("cannot look after the hooks: cannot make the canary bind")?;
    instance.signal(Signal::HUP)?;
    instance.wait_for("reload failed, keeping the previous policy")?;
    enforced(env, hook)?;
    judged(env, &instance, &denied(), deny("no-root"))?;
    // Who asks now is answered when there is a descriptor again.
    let mut asking = instance.command(&["status", "--json"]);
    let asking = asking.stdout(Stdio::piped()).spawn()?;
    instance.wait_for("cannot take clients")?;
    descriptors(instance.pid(), before)?;
    let told = asking.wait_with_output()?.stdout;
    let status: Value = serde_json::from_slice(&told).context("status was never answered")?;
    ensure!(status["reloads"]["failed"] == 1, "{status}");
    instance.wait_for("the hooks are all right again")?;
    instance.signal(Signal::HUP)?;
    instance.wait_for("is in force")?;
    let said = &instance.said;
    ensure!(
        said.contains("Too many open files"),
        "it does not say why: {said}"
    );
    ensure!(!said.contains("NOT ENFORCING"), "a false alarm: {said}");
    let status = instance.status()?;
    ensure!(
        status["enforcing"] == "enforce" && status["reattached"] == 0,
        "{status}"
    );
    ensure!(directory()?.join("META").exists(), "its pins are gone");
    instance.end(Signal::KILL)?;
    enforced(env, hook)
}

/// Of each of these a map of the kernel has an entry of more than half a kilobyte.
const GROUPS: u32 = 32_000;

/// [`POLICY`], and a rule that wants much of the kernel's memory and little of the daemon's.
fn large() -> String {
    let mut text = String::from(POLICY);
    text.push_str("  - { name: many, action: deny, ports: [83], groups: [");
    for number in 0..GROUPS {
        // No two are neighbours, or they would be one entry.
        let _ = write!(text, "{},", 100_001 + 2 * number);
    }
    text.push_str("] }\n");
    text
}

/// Locked memory that no start of portguard can do with, in bytes.
const LITTLE: u64 = 64 << 10;

/// A portguard whose maps are charged to a cgroup whose memory can be limited.
fn in_cgroup(env: &TestEnv, cgroups: &mut Cgroups, name: &str) -> anyhow::Result<Instance> {
    std::fs::write(env.cgroups.join("cgroup.subtree_control"), "+memory")?;
    cgroups.make(&[name.to_owned()])?;
    let enter = |path: std::path::PathBuf| std::fs::write(path.join("cgroup.procs"), "0");
    enter(env.cgroups.join(name))?;
    let hook = env.auto_hook();
    let started = Instance::start_prepared(env, POLICY, hook, &["--no-fold"], |command, _| {
        // The library that makes the maps raises this limit where it is in the way (Linux before 5.11), once: here
        // at the start, since what is inherited may be no limit at all, and then it would be at the reload.
        let little = limit_of_locked(LITTLE);
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Memlock, little)?)) };
        Ok(())
    });
    enter(env.cgroups.clone())?;
    let instance = started?;
    // Its maps stay charged there, its own memory no longer is: nothing but an entry can fail.
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
    let said = &instance.said;
    ensure!(
        said.contains(limit.says()),
        "not {:?}: {said}",
        limit.says()
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

/// What keeps the kernel from giving a map memory.
enum Limit {
    /// `memory.max` of the daemon's cgroup, to which maps are charged (Linux 5.11).
    Cgroup,
    /// `RLIMIT_MEMLOCK`, before.
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

    const fn says(&self) -> &'static str {
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

/// This much locked memory, in bytes, and no reason not to ask for more.
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
