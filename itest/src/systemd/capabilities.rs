//! The capabilities of the unit: without any of them something must fail.

use super::guarded::{bind_by, in_force};
use super::life::detach;
use super::unit::{DropIn, UNIT, command, journal, property, systemctl};
use crate::harness::TestEnv;
use crate::harness::cgroups::within;
use crate::harness::lines::DEADLINE;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

/// The daemon's output goes to files instead of the journal.
const OUTPUT: &str = "ExecStart=\n\
                      ExecStart=/usr/bin/portguard run --pin --bpffs /run/portguard/bpffs\n\
                      StandardOutput=truncate:/run/portguard-itest.out\n\
                      StandardError=truncate:/run/portguard-itest.err";

/// Deeper than the programs record, so the daemon must look up the path.
const DEEP: usize = 36;

/// The kernel whose guest tries each capability.
const MEASURED: (u32, u32) = (6, 12);

/// With the shipped set everything works, with any smaller one something fails.
pub(super) fn each_is_needed(env: &TestEnv) -> anyhow::Result<()> {
    let shipped = property("CapabilityBoundingSet")?;
    let failures = failures_with(env, "")?;
    ensure!(
        failures.is_empty(),
        "with {shipped}: {}",
        failures.join("; ")
    );
    println!("  with {shipped}: nothing fails");
    if env.kernel != MEASURED {
        return Ok(());
    }
    let mut idle = Vec::new();
    for capability in shipped.split_whitespace() {
        let without = format!("CapabilityBoundingSet=~{capability}");
        let failures = failures_with(env, &without)?;
        println!("  without {capability}: {}", failures.join("; "));
        if failures.is_empty() {
            idle.push(capability);
        }
    }
    socket_group()?;
    drop(fresh(env, "")?);
    ensure!(idle.is_empty(), "not needed: {}", idle.join(", "));
    Ok(())
}

/// A daemon started without pins, with further settings; `None` if it does not start.
fn fresh(env: &TestEnv, settings: &str) -> anyhow::Result<Option<DropIn>> {
    let _ = systemctl(&["stop", UNIT])?;
    detach()?;
    let drop_in = DropIn::new("capabilities", &format!("{OUTPUT}\nRestart=no\n{settings}"))?;
    let started = systemctl(&["start", UNIT])?;
    if !started.status.success() {
        return Ok(None);
    }
    in_force(env.grants())?;
    Ok(Some(drop_in))
}

/// `--socket-group` needs a capability that the shipped set lacks.
fn socket_group() -> anyhow::Result<()> {
    for (capability, expected) in [("", 0), ("CapabilityBoundingSet=CAP_CHOWN", 33)] {
        let drop_in = DropIn::new(
            "group",
            &format!(
                "Restart=no\nExecStart=\n\
                 ExecStart=/usr/bin/portguard run --pin --bpffs /run/portguard/bpffs --socket-group www-data\n{capability}"
            ),
        )?;
        let _ = systemctl(&["restart", UNIT])?;
        let socket = std::fs::metadata("/run/portguard/portguard.sock");
        let group = socket.map_or(0, |socket| socket.gid());
        ensure!(
            group == expected,
            "{capability:?}: the socket is group {group}'s\n{}",
            journal()?
        );
        drop(drop_in);
    }
    println!("  --socket-group needs CAP_CHOWN besides");
    Ok(())
}

/// What fails with these settings.
fn failures_with(env: &TestEnv, settings: &str) -> anyhow::Result<Vec<String>> {
    let mut failures = Vec::new();
    // Bound before the start, by a process that has more capabilities than the daemon.
    let _held = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 45), 81))?;
    let started = match fresh(env, settings) {
        Ok(Some(drop_in)) => drop_in,
        Ok(None) => return Ok(vec![format!("it does not start: {}", last_words())]),
        Err(error) => return Ok(vec![format!("it does not enforce: {error:#}")]),
    };
    let stderr = std::fs::read_to_string("/run/portguard-itest.err")?;
    for line in stderr.lines() {
        // What the kernel lacks, no capability gives.
        let of_kernel = line.starts_with("portguard: this kernel cannot");
        if !of_kernel && (line.contains("cannot") || line.contains("warning")) {
            failures.push(line.trim_start_matches("portguard: ").to_owned());
        }
    }
    failures.extend(missing_in_events()?);
    failures.extend(unlisted_sockets()?);
    for verb in ["status", "reload"] {
        let output = command("portguard", &[verb])?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            failures.push(format!("{verb}: {}", String::from_utf8_lossy(&text).trim()));
        }
    }
    let restarted = systemctl(&["restart", UNIT])?;
    if restarted.status.success() {
        in_force(env.grants())?;
    } else {
        failures.push(format!("it does not take over: {}", last_words()));
    }
    drop(started);
    Ok(failures)
}

/// The last line of the daemon's stderr.
fn last_words() -> String {
    let stderr = std::fs::read_to_string("/run/portguard-itest.err").unwrap_or_default();
    let last = stderr.lines().rfind(|line| !line.trim().is_empty());
    last.map_or_else(|| journal().unwrap_or_default(), str::to_owned)
}

/// What events lack: the program of a process, the path of a deep cgroup.
fn missing_in_events() -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = (0..DEEP).map(|level| format!("c{level}")).collect();
    let path: Vec<&str> = names.iter().map(String::as_str).collect();
    let bound = Ipv4Addr::new(127, 0, 0, 44);
    // The process must stay in that cgroup until the daemon has looked it up.
    let event = within(&path, || {
        drop(TcpListener::bind((bound, 80)));
        event_of(bound)
    })??;
    let mut failures = Vec::new();
    if event["exe"].as_str().is_none() {
        failures.push("the caller's program is not found".to_owned());
    }
    let expected = format!("/{}", path.join("/"));
    if event["cgroup"].as_str() != Some(&expected) {
        failures.push(format!("the cgroup's path is {}", event["cgroup"]));
    }
    Ok(failures)
}

/// Why the sockets that were bound before the start are not listed, if they are not.
fn unlisted_sockets() -> anyhow::Result<Option<String>> {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        let output = command("portguard", &["status", "--json"])?;
        let status: Value = serde_json::from_slice(&output.stdout)?;
        if !status["violations"].is_null() {
            return Ok(None);
        }
        let stderr = std::fs::read_to_string("/run/portguard-itest.err")?;
        let mut lines = stderr.lines();
        if let Some(line) = lines.find(|line| line.contains("existing sockets cannot")) {
            return Ok(Some(line.trim_start_matches("portguard: ").to_owned()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(Some("existing sockets are not listed".to_owned()))
}

/// The event of a bind at this address.
fn event_of(address: Ipv4Addr) -> anyhow::Result<Value> {
    let until = Instant::now() + DEADLINE;
    loop {
        let text = std::fs::read_to_string("/run/portguard-itest.out")?;
        let mut events = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = events.find(|event| event["address"] == address.to_string());
        if let Some(event) = found {
            return Ok(event);
        }
        ensure!(Instant::now() < until, "no event of {address}");
        // Another decision ends the window in which equal ones are aggregated.
        bind_by(33).context("a bind")?;
        std::thread::sleep(Duration::from_millis(100));
    }
}
