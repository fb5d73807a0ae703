//! The events of a running portguard: lines of its stdout, found by the bind that caused them.

use crate::harness::instance::Instance;
use crate::harness::lines::DEADLINE;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// A port that the policies of the tests protect and report, for a bind whose event ends a list of events.
const SENTINEL: u16 = 999;

/// How long to wait for its event before it is made again.
const SENTINEL_RETRY: Duration = Duration::from_secs(10);

impl Instance {
    /// All lines of stdout up to the event of a bind made now, which is left out. An earlier bind that is not in
    /// them was not reported.
    pub fn lines_until_now(&self) -> anyhow::Result<Vec<String>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let [_, _, high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [.., pid] = std::process::id().to_be_bytes();
        let network = pid | 128;
        let address = Ipv4Addr::new(127, network, high, low.max(1));
        let mark = address.to_string();
        let ours = format!("127.{network}.");
        let mut lines = Vec::new();
        let until = Instant::now() + DEADLINE;
        loop {
            // Refused or not: only the event matters. The first may find the ring full of events that no daemon
            // had read.
            drop(UdpSocket::bind((address, SENTINEL)));
            loop {
                let line = match self.stdout.recv_timeout(SENTINEL_RETRY) {
                    Ok(line) => line,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        bail!("portguard ended before the event for {mark}:{SENTINEL}")
                    }
                };
                let sentinel = line.contains(&ours) && line.contains("999");
                if sentinel && line.contains(&mark) {
                    return Ok(lines);
                }
                if !sentinel {
                    lines.push(line);
                }
            }
            ensure!(
                Instant::now() < until,
                "no event for {mark}:{SENTINEL}, only {lines:?}"
            );
        }
    }

    /// The lines of stdout so far, without waiting for more.
    #[must_use]
    pub fn lines(&mut self) -> Vec<String> {
        self.stdout.try_iter().collect()
    }

    /// The events so far of the process with this name.
    pub fn events_of(&self, comm: &[u8]) -> anyhow::Result<Vec<Value>> {
        let comm = String::from_utf8_lossy(comm);
        let mut events = self.events()?;
        events.retain(|event| event["comm"].as_str() == Some(&comm));
        Ok(events)
    }

    /// All events so far.
    pub fn events(&self) -> anyhow::Result<Vec<Value>> {
        let lines = self.lines_until_now()?;
        lines.iter().map(|line| parse(line)).collect()
    }

    /// The next event that fits; those before it are skipped.
    pub fn next_event(&self, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.stdout.recv_timeout(left).context("no such event")?;
            let event = parse(&line)?;
            if fits(&event) {
                return Ok(event);
            }
        }
    }

    /// The output of `portguard status --json` once it fits.
    pub fn status_when(&self, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let status = self.status()?;
            if fits(&status) {
                return Ok(status);
            }
            ensure!(Instant::now() < until, "it stays at {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn parse(line: &str) -> anyhow::Result<Value> {
    serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}"))
}

/// How many decisions these events stand for, of one verdict or of all.
pub(crate) fn decisions(lines: &[String], verdict: Option<&str>) -> anyhow::Result<u64> {
    let mut sum = 0;
    for line in lines {
        let event = parse(line)?;
        if verdict.is_none_or(|verdict| event["verdict"] == verdict) {
            sum += event["count"].as_u64().with_context(|| line.clone())?;
        }
    }
    Ok(sum)
}
