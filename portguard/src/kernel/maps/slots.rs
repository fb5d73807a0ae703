//! The two places for a policy: one is in force, the other is free or has the next policy.
//!
//! A place is a slot of `POLICY`, which has the image, and a memo with its hits. One word says which is in force.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, map_error, slot_error};
use crate::kernel::maps::map_set::Maps;
use aya::maps::Array;
use portguard_common::{Counter, MEMO_HITS, Memo};
use rustix::fd::AsFd as _;
use std::path::Path;
use zerocopy::IntoBytes as _;

const ACTIVE: &str = "ACTIVE";

/// A place for a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Slot {
    First,
    Second,
}

impl Slot {
    /// The place of the policy in force; `None` where none is installed.
    pub(in crate::kernel) fn in_force(maps: &Maps) -> Result<Option<Self>, KernelError> {
        let active: Array<_, u64> = maps.view(ACTIVE)?;
        let active = active.get(&0, 0).map_err(map_error(ACTIVE))?;
        Ok(Self::of_active(active))
    }

    /// The same by the maps that are pinned in a directory; `None` too where it cannot be read.
    pub(in crate::kernel) fn in_force_of(directory: &Path) -> Option<Self> {
        let map = bpf_sys::open_pin(&directory.join(ACTIVE)).ok()?;
        let mut active = 0u64;
        bpf_sys::read_only_value(map.as_fd(), active.as_mut_bytes()).ok()?;
        Self::of_active(active)
    }

    const fn of_active(active: u64) -> Option<Self> {
        match active {
            0 => None,
            1 => Some(Self::First),
            _ => Some(Self::Second),
        }
    }

    /// The other one.
    pub(in crate::kernel) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// The index in `POLICY`.
    pub(in crate::kernel) const fn index(self) -> u32 {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }

    const fn memo(self) -> &'static str {
        match self {
            Self::First => "MEMO_1",
            Self::Second => "MEMO_2",
        }
    }

    const fn hits(self) -> &'static str {
        match self {
            Self::First => "HITS_1",
            Self::Second => "HITS_2",
        }
    }

    /// Puts what is in this place in force.
    pub(in crate::kernel) fn activate(self, maps: &mut Maps) -> Result<(), KernelError> {
        let mut active: Array<_, u64> = maps.table(ACTIVE)?;
        let number = u64::from(self.index()) + 1;
        active.set(0, number, 0).map_err(map_error(ACTIVE))
    }

    /// Writes the memo of a policy, and no hits, into this place, which no program uses.
    pub(in crate::kernel) fn write(
        self,
        maps: &Maps,
        memo: &Memo,
        generation: u16,
    ) -> Result<(), KernelError> {
        let mut numbered = memo.as_bytes().to_vec();
        // It is the first word.
        for (byte, number) in numbered.iter_mut().zip(u64::from(generation).to_ne_bytes()) {
            *byte = number;
        }
        write(maps, self.memo(), &numbered)?;
        write(maps, self.hits(), vec![0u64; MEMO_HITS].as_bytes())
    }

    /// Reads the hits: of the default, then of each rule.
    pub(in crate::kernel) fn read_hits(self, maps: &Maps) -> Result<Vec<u64>, KernelError> {
        let name = self.hits();
        let mut hits = vec![0u64; MEMO_HITS];
        bpf_sys::read_only_value(maps.fd(name)?, hits.as_mut_bytes()).map_err(slot_error(name))?;
        Ok(hits)
    }
}

/// What is in the pinned maps whose memory the programs reach directly, by name.
///
/// aya writes the contents that the object gives them when it loads an object, also where the map is pinned: they must
/// be given what they have, or programs that are attached would see no policy.
pub(in crate::kernel) fn pinned_contents(directory: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let of_slots = [Slot::First, Slot::Second].into_iter().flat_map(|slot| {
        let hits = MEMO_HITS * size_of::<u64>();
        [(slot.memo(), size_of::<Memo>()), (slot.hits(), hits)]
    });
    let counters = Counter::COUNT as usize * size_of::<u64>();
    let others = [(ACTIVE, size_of::<u64>()), ("COUNTERS", counters)];
    let read = |(name, size): (&'static str, usize)| {
        let map = bpf_sys::open_pin(&directory.join(name)).ok()?;
        let mut value = vec![0; size];
        bpf_sys::read_only_value(map.as_fd(), &mut value).ok()?;
        Some((name, value))
    };
    of_slots.chain(others).filter_map(read).collect()
}

fn write(maps: &Maps, name: &'static str, value: &[u8]) -> Result<(), KernelError> {
    bpf_sys::write_only_value(maps.fd(name)?, value).map_err(slot_error(name))
}
