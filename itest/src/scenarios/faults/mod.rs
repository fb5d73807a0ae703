//! Faults: each test provokes one, and each is a row of `docs/failure-modes.md`.

mod limits;
mod readers;
mod ring;
mod storage;
mod time;

use crate::harness::Table;

/// Faults whose effect depends on the kernel.
pub(crate) const OF_KERNEL: [Table; 2] = [limits::OF_KERNEL, ring::TESTS];

/// Faults that the daemon meets.
pub(crate) const OF_DAEMON: [Table; 4] = [
    storage::TESTS,
    limits::OF_DAEMON,
    time::TESTS,
    readers::TESTS,
];

/// The first cells of the table in `docs/failure-modes.md`, and the test that provokes each fault.
pub const ROWS: &[(&str, &str)] = &[
    (
        "Disk full behind `--sink file:` or stdout",
        "fault_full_disk",
    ),
    ("No bpffs at /sys/fs/bpf, `--pin`", "fault_no_bpffs"),
    (
        "Another user made /sys/fs/bpf/portguard, or a link there, `--pin`",
        "pins_of_another_user_are_left_alone",
    ),
    (
        "bpffs unmounted under a daemon with `--pin`",
        "fault_bpffs_unmounted",
    ),
    ("/run read-only", "fault_read_only_run"),
    (
        "The policy's files are broken at a start",
        "start_with_broken_files_enforces_the_last_policy",
    ),
    (
        "The same, and no policy was kept, or it is damaged",
        "start_with_broken_files_and_no_policy_kept",
    ),
    (
        "A policy file is written slowly, or its writer dies in the middle",
        "policy_half_written",
    ),
    (
        "A policy file, its directory or one above belongs to another user, or is writable by group or others",
        "policy_writable_by_others",
    ),
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
        "A user or group of the policy does not exist, or its name gets another id",
        "accounts_come_and_go",
    ),
    (
        "Daemon stopped (SIGSTOP, a debugger, a frozen cgroup)",
        "fault_stopped",
    ),
    ("Hundreds of monitors at once", "fault_monitors"),
    (
        "Hundreds of silent connections to `--metrics`",
        "metrics_beside_silent_connections",
    ),
    (
        "`--metrics` cannot listen: address in use, no directory, something else at the path",
        "metrics_address_in_use",
    ),
    ("Reader of stdout hangs", "fault_dead_reader"),
    ("journald killed", "fault_journald_killed"),
    (
        "Daemon killed (kill -9, OOM), no `--pin`",
        "signals_leave_nothing",
    ),
    ("Daemon killed (kill -9, OOM), `--pin`", "pins_outlive_kill"),
    (
        "Killed in the middle of a start or a reload, `--pin`",
        "pins_killed_at_any_moment",
    ),
    (
        "A hook detached or a pin removed while the daemon runs",
        "health_restores_hooks",
    ),
    ("Two daemons at once", "two_daemons"),
];
