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
