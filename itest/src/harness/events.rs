//! What a running portguard reports: the lines of its standard output, and the events that they are.

use crate::harness::instance::{DEADLINE, Instance};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A port that every policy of the tests protects and reports, for the bind that comes after all others.
const SENTINEL: u16 = 999;

impl Instance {
    /// All lines of stdout up to that of a bind made now, which is left out: what happened before and
    /// is not among them was not reported.
    pub fn lines_until_now(&self) -> anyhow::Result<Vec<String>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let [_, _, high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [.., pid] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, pid | 128, high, low.max(1));
        // Refused or not: it is the event that counts.
        drop(UdpSocket::bind((address, SENTINEL)));
        let mark = address.to_string();
        let mut lines = Vec::new();
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self
                .stdout
                .recv_timeout(left)
                .with_context(|| format!("no event for {mark}:{SENTINEL}"))?;
            if line.contains(&mark) && line.contains("999") {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    /// The lines of stdout so far, whatever is on its way.
    #[must_use]
    pub fn lines(&mut self) -> Vec<String> {
        self.stdout.try_iter().collect()
    }

    /// The events so far of the process of this name.
    pub fn events_of(&self, comm: &[u8]) -> anyhow::Result<Vec<Value>> {
        let comm = String::from_utf8_lossy(comm);
        let mut events = self.events()?;
        events.retain(|event| event["comm"].as_str() == Some(&comm));
        Ok(events)
    }

    /// All events so far.
    pub fn events(&self) -> anyhow::Result<Vec<Value>> {
        self.lines_until_now()?
            .iter()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line:?}")))
            .collect()
    }

    /// The next event that is `wanted`; those before it are passed over.
    pub fn next_event(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.stdout.recv_timeout(left).context("no such event")?;
            let event =
                serde_json::from_str(&line).with_context(|| format!("no JSON: {line:?}"))?;
            if wanted(&event) {
                return Ok(event);
            }
        }
    }

    /// What `portguard status --json` says once it is `wanted`.
    pub fn status_when(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            ensure!(Instant::now() < until, "it stays at {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
