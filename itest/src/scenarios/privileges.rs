//! What the daemon can no longer do once it is ready, and what it still can.

use super::checks::{deny, expect_decision};
use super::pins::{POLICY as POLICY_OF_PINS, PinCleanup, denied, directory, enforced, free};
use crate::harness::Table;
use crate::harness::instance::Instance;
use crate::harness::lines::DEADLINE;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::raw_syscalls::loaded_programs;
use crate::harness::scrape::Scraped;
use crate::harness::socket_holder::Hold;
use crate::harness::{Needs, NotApplicable, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("privileges_dropped", Needs::Nothing, dropped),
    ("privileges_kept_without_sandbox", Needs::Nothing, kept),
    ("privileges_suffice", Needs::Nothing, suffice),
    ("privileges_of_file_sink", Needs::Nothing, file_sink),
    ("privileges_of_takeover", Needs::Guest, takeover),
];

const POLICY: &str = "version: 1
rules:
  - { name: no-root, action: deny, ports: [81], users: [0] }
";

/// Of the loopback network, at a port that takes a capability to bind.
const METRICS: ([u8; 4], u16) = ([127, 66, 0, 9], 82);

/// The capabilities that the event loop keeps, by their numbers in `include/uapi/linux/capability.h`.
const EVENT_LOOP: u64 = 1 << 2 | 1 << 12 | 1 << 19 | 1 << 38 | 1 << 39;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_ADMIN: u64 = 1 << 21;

/// The status of each thread, by its name.
fn threads(pid: u32) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut threads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // It may have ended.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else {
            continue;
        };
        let name = field(&status, "Name:")?;
        threads.entry(name).or_default().push(status);
    }
    Ok(threads)
}

fn field(status: &str, name: &str) -> anyhow::Result<String> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.with_context(|| status.to_owned())?.trim().to_owned())
}

fn set(status: &str, name: &str) -> anyhow::Result<u64> {
    Ok(u64::from_str_radix(&field(status, name)?, 16)?)
}

/// Each thread has the filter, and no capability in any set but those that its work needs.
fn dropped(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let sink = format!("file:{}", directory.path().join("decisions").display());
    let sinks = ["--sink", "stdout", "--sink", &sink];
    let arguments = [&["--no-fold", "--output", "json"][..], &sinks].concat();
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    // Threads that come later have no more.
    instance.reload(POLICY)?;
    let threads = threads(instance.pid())?;
    for name in ["portguardd", "accounts", "sink-stdout", "sink-file"] {
        ensure!(
            threads.contains_key(name),
            "no {name}: {:?}",
            threads.keys()
        );
    }
    for (name, statuses) in &threads {
        for status in statuses {
            confined(name, status)?;
        }
    }
    shown(&instance)?;
    instance.stop()?;
    // A policy for other network namespaces needs one more.
    let all = format!("{POLICY}scope: all\n");
    let instance = Instance::start(env, &all)?;
    let status = fs::read_to_string(format!("/proc/{}/status", instance.pid()))?;
    let had = set(&status, "CapEff:")?;
    ensure!(had == EVENT_LOOP | SYS_ADMIN, "scope: all: {had:016x}");
    instance.stop()?;
    Ok(())
}

/// The thread of this name has what it needs at most.
fn confined(name: &str, status: &str) -> anyhow::Result<()> {
    let wanted = match name {
        "accounts" | "sink-stdout" | "sink-file" => 0,
        "policy" => DAC_READ_SEARCH,
        _ => EVENT_LOOP,
    };
    // No thread executes a program, which alone could get what is in the bounding set.
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].map(|kind| (kind, wanted));
    for (kind, wanted) in sets.into_iter().chain([("CapBnd:", EVENT_LOOP)]) {
        let had = set(status, kind)?;
        ensure!(
            had & !wanted == 0,
            "{name}: {kind} {had:016x}, not {wanted:016x}"
        );
    }
    ensure!(
        field(status, "NoNewPrivs:")? == "1",
        "{name} may gain privileges"
    );
    ensure!(field(status, "Seccomp:")? == "2", "{name} is not filtered");
    Ok(())
}

/// `status` shows it.
fn shown(instance: &Instance) -> anyhow::Result<()> {
    let hardening = instance.status()?["hardening"].clone();
    for part in ["sandbox", "seccomp", "no_new_privs"] {
        ensure!(hardening[part] == true, "{part}: {hardening}");
    }
    let missing = hardening["missing"].as_array().map_or(0, Vec::len);
    ensure!(hardening["landlock"] == (missing == 0), "{hardening}");
    let capabilities = json!([
        "CAP_DAC_READ_SEARCH",
        "CAP_NET_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_PERFMON",
        "CAP_BPF"
    ]);
    ensure!(hardening["capabilities"] == capabilities, "{hardening}");
    let output = instance.command(&["status"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("sandbox"));
    let line = line.with_context(|| text.clone())?;
    ensure!(
        line.contains("no_new_privs, seccomp, ") && line.ends_with("CAP_BPF"),
        "{line}"
    );
    Ok(())
}

fn kept(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &["--no-sandbox"])?;
    let own = fs::read_to_string("/proc/self/status")?;
    for statuses in threads(instance.pid())?.values() {
        for status in statuses {
            for kind in ["CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"] {
                ensure!(
                    field(status, kind)? == field(&own, kind)?,
                    "{kind} {status}"
                );
            }
        }
    }
    let hardening = instance.status()?["hardening"].clone();
    ensure!(
        hardening["sandbox"] == false
            && hardening["seccomp"] == false
            && hardening["landlock"] == false,
        "{hardening}"
    );
    let output = instance.command(&["status"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains("sandbox      off, by --no-sandbox"), "{text}");
    instance.stop()?;
    Ok(())
}

/// A bind that another policy file denies has an event with the program of a process of another user.
fn reports(instance: &Instance) -> anyhow::Result<()> {
    let probe = Probe::user(1000).bind(Attempt::tcp(83));
    // It lives until its event has been seen.
    let _held = Hold::of(probe.clone()).start()?;
    let events = instance.events_of(&probe.comm)?;
    let event = events.first().context("no event")?;
    ensure!(
        event["rule"] == "other" && event["exe"].is_string(),
        "{event}"
    );
    Ok(())
}

/// Reloads from a private directory of another user through a link, metrics at a low port, the programs of other users'
/// processes.
fn suffice(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("a.yaml"), POLICY)?;
    let metrics = SocketAddr::from(METRICS);
    let text = metrics.to_string();
    let arguments = [
        "--no-fold",
        "--output",
        "json",
        "--metrics",
        &text,
        "--insecure-policy-permissions",
    ];
    let mut instance = Instance::start_on(env, directory.path(), env.auto_hook(), &arguments)?;
    let elsewhere = tempfile::tempdir()?;
    let private = elsewhere.path().join("private");
    fs::create_dir(&private)?;
    let linked = private.join("b.yaml");
    fs::write(
        &linked,
        "version: 1\nrules:\n  - { name: other, action: deny, ports: [83], users: [1000] }\n",
    )?;
    for path in [&linked, &private] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        chown(path, Some(1000), Some(1000))?;
    }
    symlink(&linked, directory.path().join("b.yaml"))?;
    instance.wait_for("is in force")?;
    reports(&instance)?;
    Scraped::from(metrics)?.check(&[("portguard_reloads_total", &[("result", "success")], 1)])?;
    instance.stop()?;
    Ok(())
}

/// The file of a sink is made again in its directory; in another directory by its name the error says why it is not.
fn file_sink(env: &TestEnv) -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("log");
    fs::create_dir(&directory)?;
    let path = directory.join("decisions.jsonl");
    let sink = format!("file:{}", path.display());
    let arguments = ["--no-fold", "--sink", &sink];
    let mut instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let landlock = instance.status()?["hardening"]["landlock"] == true;
    fs::rename(&path, directory.join("decisions.1"))?;
    instance.signal(Signal::USR1)?;
    wait_for_file(&path)?;
    fs::rename(&directory, parent.path().join("old"))?;
    fs::create_dir(&directory)?;
    instance.signal(Signal::USR1)?;
    if !landlock {
        wait_for_file(&path)?;
        instance.stop()?;
        return Err(NotApplicable("the kernel has no Landlock".into()).into());
    }
    instance.wait_for("cannot reopen")?;
    let line = instance.stderr.lines().last().unwrap_or_default();
    ensure!(
        line.contains("Permission denied")
            && line.ends_with("restart it, or start it with --no-sandbox"),
        "{line}"
    );
    // The directory that was there at the start.
    fs::remove_dir(&directory)?;
    fs::rename(parent.path().join("old"), &directory)?;
    fs::remove_file(&path)?;
    instance.signal(Signal::USR1)?;
    wait_for_file(&path)?;
    instance.stop()?;
    Ok(())
}

/// Pins are made, taken over, repaired, replaced and removed with the capabilities that the shipped unit gives.
fn takeover(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    for hook in env.deciding_hooks() {
        let before = loaded_programs()?;
        let first = narrow(env, hook)?;
        // Of a daemon that has loaded them itself, with a probe that is never attached.
        let attached = loaded_programs()?;
        first.end(Signal::KILL)?;
        enforced(env, hook)?;
        let mut second = narrow(env, hook)?;
        let taken = "took over the pinned programs";
        ensure!(second.stderr.contains(taken), "{}", second.stderr);
        fs::remove_file(directory()?.join("link_bind4"))?;
        second.wait_for("hooks re-attached")?;
        enforced(env, hook)?;
        second.reload(POLICY_OF_PINS)?;
        second.end(Signal::KILL)?;
        // Without its record the programs are replaced: those before have gone when the next daemon is ready.
        fs::remove_file(directory()?.join("META"))?;
        let third = narrow(env, hook)?;
        ensure!(!third.stderr.contains(taken), "{}", third.stderr);
        ensure!(third.status()?["decisions"]["deny"] == 2, "other maps");
        expect_decision(env, &third, &denied(), deny("no-root"))?;
        until_at_most(attached, "programs are left after a start")?;
        let output = third.command(&["detach"]).output()?;
        ensure!(output.status.success(), "{output:?}");
        third.end_by_itself()?;
        free()?;
        until_at_most(before, "programs are left after detach")?;
    }
    Ok(())
}

/// The kernel frees programs a moment after they are detached.
fn until_at_most(programs: u32, what: &str) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    while loaded_programs()? > programs {
        ensure!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
    Ok(())
}

/// A daemon that pins and never had other capabilities.
fn narrow(env: &TestEnv, hook: &'static str) -> anyhow::Result<Instance> {
    let arguments = [
        "--pin",
        "--no-fold",
        "--output",
        "json",
        "--check-every",
        "1",
    ];
    Instance::start_prepared(env, POLICY_OF_PINS, hook, &arguments, |command, _| {
        let drop_others = || {
            let all = (0..64).map(|number| 1 << number);
            for capability in all.filter(|capability| EVENT_LOOP & capability == 0) {
                // The kernel does not know those with higher numbers.
                let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
                    capability,
                ));
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(drop_others) };
        Ok(())
    })
}

fn wait_for_file(path: &Path) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    while !path.exists() {
        ensure!(Instant::now() < end, "no {}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
