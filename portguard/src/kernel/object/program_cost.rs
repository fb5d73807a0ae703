//! What programs cost, where the kernel measures it.

use crate::status::ProgramCost;
use aya::Ebpf;
use rustix::fd::{AsFd as _, AsRawFd as _};

/// The switch: measuring costs each run of every program of the host some nanoseconds.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The cost of the programs of an object, which holds them open; nothing where the kernel does not measure. Programs of
/// which only the id is known are not opened: that takes CAP_SYS_ADMIN.
pub(in crate::kernel) fn program_costs(
    object: &Ebpf,
    names: impl Iterator<Item = &'static str>,
) -> Vec<ProgramCost> {
    if !std::fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "1") {
        return Vec::new();
    }
    let costs = names.filter_map(|name| {
        let program = object.program(name)?.fd().ok()?;
        let fd = program.as_fd().as_raw_fd();
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        cost(name, &text)
    });
    costs.collect()
}

/// The cost in the text of `/proc/PID/fdinfo/FD` of a program.
fn cost(name: &str, fdinfo: &str) -> Option<ProgramCost> {
    let field = |key: &str| {
        let mut lines = fdinfo.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        value.trim().parse().ok()
    };
    Some(ProgramCost {
        name: name.to_owned(),
        runs: field("run_cnt")?,
        run_ns: field("run_time_ns")?,
    })
}

#[cfg(test)]
mod tests {
    use super::cost;

    #[test]
    fn cost_is_read_from_fdinfo() {
        let text = "pos:\t0\nflags:\t02000002\nprog_type:\t29\nrun_time_ns:\t5120\nrun_cnt:\t8\n";
        let cost = cost("bind4", text).expect("a cost");
        assert_eq!((cost.runs, cost.run_ns), (8, 5120));
        // Before Linux 5.1.
        assert_eq!(super::cost("bind4", "prog_type:\t29\n"), None);
    }
}
