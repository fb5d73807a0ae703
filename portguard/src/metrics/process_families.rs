//! The metrics of what portguard costs: its programs, and its daemon as the clients of Prometheus name it.

use super::family::{Family, duration, moment, sample, single};
use crate::status::{DaemonStatus, ProgramCost};

/// What the programs in the kernel cost.
pub(super) fn programs(programs: &[ProgramCost]) -> Vec<Family> {
    let runs = |cost: &ProgramCost| sample([("program", cost.name.as_str())], cost.runs);
    let time = |cost: &ProgramCost| {
        duration(
            [("program", cost.name.as_str())],
            cost.run_ns,
            1_000_000_000,
        )
    };
    vec![
        Family::counter(
            "portguard_program_runs",
            "Runs of a program in the kernel, while kernel.bpf_stats_enabled is 1.",
            programs.iter().map(runs).collect(),
        ),
        Family::counter(
            "portguard_program_run_seconds",
            "Time that a program ran in the kernel, while kernel.bpf_stats_enabled is 1.",
            programs.iter().map(time).collect(),
        ),
    ]
}

/// The prefix of what every program with a client of Prometheus reports of itself.
pub(super) const PROCESS: &str = "process_";

/// What the daemon's process uses.
pub(super) fn process(daemon: &DaemonStatus) -> Vec<Family> {
    let mut families = vec![Family::gauge(
        "process_start_time_seconds",
        "When the daemon started, in seconds since the epoch.",
        moment(&daemon.since),
    )];
    let Some(usage) = daemon.usage else {
        return families;
    };
    families.extend([
        Family::counter(
            "process_cpu_seconds",
            "Time of the daemon on a CPU.",
            vec![duration([], usage.cpu_ms, 1_000)],
        ),
        Family::gauge(
            "process_resident_memory_bytes",
            "Resident memory of the daemon.",
            single(usage.resident),
        ),
        Family::gauge(
            "process_virtual_memory_bytes",
            "Virtual memory of the daemon.",
            single(usage.virtual_memory),
        ),
        Family::gauge(
            "process_open_fds",
            "Open file descriptors of the daemon.",
            single(usage.open_fds),
        ),
        Family::gauge(
            "process_max_fds",
            "The daemon's limit of file descriptors.",
            single(usage.max_fds),
        ),
    ]);
    families
}
