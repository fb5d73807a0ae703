//! What the daemon itself uses, as the clients of Prometheus report it.

use crate::status::ProcessUsage;
use procfs::process::{LimitValue, Process};

/// What this process uses; `None` where /proc cannot be read.
pub(super) fn process_usage() -> Option<ProcessUsage> {
    let own = Process::myself().ok()?;
    let stat = own.stat().ok()?;
    let limit = own.limits().ok()?.max_open_files.soft_limit;
    Some(ProcessUsage {
        cpu_ms: (stat.utime + stat.stime) * 1000 / procfs::ticks_per_second().max(1),
        resident: stat.rss * procfs::page_size(),
        virtual_memory: stat.vsize,
        open_fds: own.fd_count().ok()? as u64,
        max_fds: match limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::process_usage;

    #[test]
    fn process_usage_is_that_of_this_process() {
        let usage = process_usage().expect("/proc");
        assert!(usage.resident > 100 << 10 && usage.resident < usage.virtual_memory);
        assert!(usage.open_fds >= 3 && usage.max_fds.is_none_or(|max| usage.open_fds <= max));
    }
}
