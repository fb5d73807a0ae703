//! The counters that the programs add to.

use crate::kernel::error::{KernelError, map_error};
use crate::kernel::maps::map_set::Maps;
use crate::status::Decisions;
use aya::maps::Array;
use portguard_common::Counter;

/// The counters since the maps were made. Exact: atomic adds on shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Decisions by verdict.
    pub decisions: Decisions,
    /// Decisions whose event found the ring full.
    pub ring_full: u64,
    /// Decisions whose event exceeded their uid's quota.
    pub uid_quota: u64,
    /// Binds by kernel threads.
    pub kernel_threads: u64,
    /// Decisions that failed because a table was missing.
    pub faults: u64,
    /// Cgroups whose path could not be read.
    pub unresolved: u64,
}

impl Counts {
    /// Reads them all.
    pub(in crate::kernel) fn read(maps: &Maps) -> Result<Self, KernelError> {
        Ok(Self {
            decisions: Decisions {
                allow: count(maps, Counter::Allow)?,
                deny: count(maps, Counter::Deny)?,
                kernel: count(maps, Counter::Kernel)?,
            },
            ring_full: count(maps, Counter::RingFull)?,
            uid_quota: count(maps, Counter::UidQuota)?,
            kernel_threads: count(maps, Counter::KernelThread)?,
            faults: count(maps, Counter::Fault)?,
            unresolved: count(maps, Counter::Unresolved)?,
        })
    }

    /// Decisions whose event the kernel dropped, by reason.
    #[must_use]
    pub fn dropped_by_reason(&self) -> [(String, u64); 2] {
        [
            ("ring_full".to_owned(), self.ring_full),
            ("uid_quota".to_owned(), self.uid_quota),
        ]
    }

    /// All of them.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.ring_full + self.uid_quota
    }
}

/// Reads one.
pub(in crate::kernel) fn count(maps: &Maps, counter: Counter) -> Result<u64, KernelError> {
    let name = "COUNTERS";
    let counters: Array<_, [u64; Counter::COUNT as usize]> = maps.view(name)?;
    let counts = counters.get(&0, 0).map_err(map_error(name))?;
    Ok(counts.get(counter as usize).copied().unwrap_or(0))
}
