//! Which capabilities the daemon needs: each of the unit's is taken away, and something must be missed.

use super::guarded::{bind_by, in_force};
use super::life::detach;
use super::unit::{DropIn, UNIT, command, journal, property, systemctl};
use crate::harness::TestEnv;
use crate::harness::bind_runner::within;
use crate::harness::instance::DEADLINE;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

/// What the daemon writes goes here instead of into the journal.
const OUTPUT: &str = "ExecStart=\n\
                      ExecStart=/usr/bin/portguard run --pin\n\
                      StandardOutput=truncate:/run/portguard-itest.out\n\
                      StandardError=truncate:/run/portguard-itest.err";

/// Deeper than the programs record: the daemon has to look the path up.
const DEEP: usize = 36;

/// What Linux 5.8 made out of `CAP_SYS_ADMIN`, in its place.
const NARROW: &str = "CapabilityBoundingSet=~CAP_SYS_ADMIN\n\
                      CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_NET_ADMIN";

/// One kernel is enough to see what is missed.
const MEASURED: (u32, u32) = (6, 12);

/// With the shipped set nothing is missed, with any smaller one something is.
pub(super) fn each_is_needed(env: &TestEnv) -> anyhow::Result<()> {
    let shipped = property("CapabilityBoundingSet")?;
    let missed = missed_with(env, "")?;
    ensure!(missed.is_empty(), "with {shipped}: {}", missed.join("; "));
    println!("  with {shipped}: nothing is missed");
    if env.kernel != MEASURED {
        return Ok(());
    }
    let mut idle = Vec::new();
    for capability in shipped.split_whitespace() {
        let without = format!("CapabilityBoundingSet=~{capability}");
        let missed = missed_with(env, &without)?;
        println!("  without {capability}: {}", missed.join("; "));
        if missed.is_empty() {
            idle.push(capability);
        }
    }
    let narrow = missed_with(env, NARROW)?;
    println!("  {}: {}", NARROW.replace('\n', " "), narrow.join("; "));
    if narrow.is_empty() {
        idle.push("cap_sys_admin, in place of which narrower ones would do");
    }
    socket_group()?;
    drop(fresh(env, "")?);
    ensure!(idle.is_empty(), "nobody misses {}", idle.join(", "));
    Ok(())
}

/// A daemon that makes everything itself, with further settings; `None` where it does not start.
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

/// A capability that only an option needs is not among those shipped.
fn socket_group() -> anyhow::Result<()> {
    for (capability, wanted) in [("", 0), ("CapabilityBoundingSet=CAP_CHOWN", 33)] {
        let drop_in = DropIn::new(
            "group",
            &format!(
                "Restart=no\nExecStart=\n\
                 ExecStart=/usr/bin/portguard run --pin --socket-group www-data\n{capability}"
            ),
        )?;
        let _ = systemctl(&["restart", UNIT])?;
        let socket = std::fs::metadata("/run/portguard/portguard.sock");
        let group = socket.map_or(0, |socket| socket.gid());
        ensure!(
            group == wanted,
            "{capability:?}: the socket is group {group}'s\n{}",
            journal()?
        );
        drop(drop_in);
    }
    println!("  --socket-group needs CAP_CHOWN besides");
    Ok(())
}

/// What does not work with these settings.
fn missed_with(env: &TestEnv, settings: &str) -> anyhow::Result<Vec<String>> {
    let mut missed = Vec::new();
    let started = match fresh(env, settings) {
        Ok(Some(drop_in)) => drop_in,
        Ok(None) => return Ok(vec![format!("it does not start: {}", last_words())]),
        Err(error) => return Ok(vec![format!("it does not enforce: {error:#}")]),
    };
    let said = std::fs::read_to_string("/run/portguard-itest.err")?;
    for line in said.lines() {
        if line.contains("cannot") || line.contains("warning") {
            missed.push(line.trim_start_matches("portguard: ").to_owned());
        }
    }
    missed.extend(missed_in_events()?);
    for verb in ["status", "reload"] {
        let output = command("portguard", &[verb])?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            missed.push(format!("{verb}: {}", String::from_utf8_lossy(&said).trim()));
        }
    }
    let restarted = systemctl(&["restart", UNIT])?;
    if restarted.status.success() {
        in_force(env.grants())?;
    } else {
        missed.push(format!("it does not take over: {}", last_words()));
    }
    drop(started);
    Ok(missed)
}

/// The last line that the daemon wrote.
fn last_words() -> String {
    let said = std::fs::read_to_string("/run/portguard-itest.err").unwrap_or_default();
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    last.map_or_else(|| journal().unwrap_or_default(), str::to_owned)
}

/// What is not found of a process: its program, and the path of a deep cgroup.
fn missed_in_events() -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = (0..DEEP).map(|level| format!("c{level}")).collect();
    let path: Vec<&str> = names.iter().map(String::as_str).collect();
    let bound = Ipv4Addr::new(127, 0, 0, 44);
    // While the daemon looks, the process lives and is in that cgroup.
    let event = within(&path, || {
        drop(TcpListener::bind((bound, 80)));
        event_of(bound)
    })??;
    let mut missed = Vec::new();
    if event["exe"].as_str().is_none() {
        missed.push("the caller's program is not found".to_owned());
    }
    let wanted = format!("/{}", path.join("/"));
    if event["cgroup"].as_str() != Some(&wanted) {
        missed.push(format!("the cgroup's path is {}", event["cgroup"]));
    }
    Ok(missed)
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
        // Equal decisions are folded; another one lets the window end.
        bind_by(33).context("a bind")?;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
