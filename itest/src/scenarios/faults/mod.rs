//! Faults of the machine and of those around: each is provoked, and each is a row of `docs/failure-modes.md`.

mod limits;
mod readers;
mod ring;
mod storage;
mod time;

use super::Table;
use crate::harness::instance::Ended;
use anyhow::Context as _;
use serde_json::Value;

pub(super) const TABLES: [Table; 5] = [
    storage::TESTS,
    limits::TESTS,
    ring::TESTS,
    time::TESTS,
    readers::TESTS,
];

/// Rows of the table in `docs/failure-modes.md`, by their first cell, and the test that provokes each.
pub const ROWS: &[(&str, &str)] = &[
    (
        "Disk full behind `--sink file:` or stdout",
        "fault_full_disk",
    ),
    ("No bpffs at /sys/fs/bpf, `--pin`", "fault_no_bpffs"),
    (
        "bpffs unmounted under a daemon with `--pin`",
        "fault_bpffs_unmounted",
    ),
    ("/run read-only", "fault_read_only_run"),
    ("Policy directory gone", "fault_policy_directory"),
    (
        "portguard's binary deleted or replaced",
        "fault_binary_replaced",
    ),
    ("No file descriptor at start", "fault_descriptors_at_start"),
    ("No file descriptor later", "fault_descriptors_later"),
    ("No kernel memory for a reload's maps", "fault_no_memory"),
    ("Ring buffer full, `--no-fold`", "fault_ring_full"),
    (
        "Ring buffer full, with aggregation",
        "fault_ring_full_folding",
    ),
    (
        "One uid with more than 1,024 different decisions in a second",
        "fault_uid_quota",
    ),
    ("Clock set forward or back", "fault_clock_jumps"),
    (
        "Daemon stopped (SIGSTOP, a debugger, a frozen cgroup)",
        "fault_stopped",
    ),
    ("Hundreds of monitors at once", "fault_monitors"),
    ("Reader of stdout hangs", "fault_dead_reader"),
    ("journald killed", "fault_journald_killed"),
    (
        "Daemon killed (kill -9, OOM), no `--pin`",
        "signals_leave_nothing",
    ),
    (
        "Daemon killed (kill -9, OOM), `--pin`",
        "pins_outlive_a_kill",
    ),
    (
        "Killed in the middle of a start or a reload, `--pin`",
        "pins_killed_anywhere",
    ),
    (
        "A hook detached or a pin removed while the daemon runs",
        "health",
    ),
    ("Two daemons at once", "two_daemons"),
];

/// Decisions in these lines, of this verdict.
fn reported(lines: &[String], verdict: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for line in lines {
        let event: Value =
            serde_json::from_str(line).with_context(|| format!("no JSON: {line:?}"))?;
        if event["verdict"] == verdict {
            sum += event["count"].as_u64().context("count")?;
        }
    }
    Ok(sum)
}

/// What a portguard that ended says that it lost.
fn lost(ended: &Ended) -> anyhow::Result<u64> {
    let mut lines = ended.said.lines();
    let lost = lines.find_map(|line| line.split("; ").nth(1)?.strip_suffix(" events lost"));
    Ok(lost.with_context(|| ended.said.clone())?.parse()?)
}
