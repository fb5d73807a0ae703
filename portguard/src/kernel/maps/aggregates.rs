//! Aggregation: equal decisions within about a second become one event with their count.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::wire::Wire;
use aya::maps::{ArrayOfMaps, HashMap, MapData, MapError};
use portguard_common::{
    AGGREGATE_MORE, AGGREGATE_SEVERAL, AggregateKey, AggregateWords, Event, MAX_AGGREGATES, Several,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

const AGGREGATES: &str = "AGGREGATES";

type Window = HashMap<MapData, Wire<AggregateKey>, Wire<AggregateWords>>;

/// An event that stands for equal decisions.
#[derive(Clone, Copy, Debug)]
pub struct Aggregated {
    /// The first of them.
    pub event: Event,
    /// How many: the first, which had an event of its own, is not among them.
    pub count: u64,
    /// What not all of them shared with the first.
    pub several: Several,
}

impl From<Event> for Aggregated {
    /// An event of its own.
    fn from(event: Event) -> Self {
        Self {
            event,
            count: 1,
            several: Several::default(),
        }
    }
}

/// Two maps that alternate: the programs write one, and the other is empty.
pub(in crate::kernel) struct Aggregates {
    running: Window,
    spare: Window,
}

fn window() -> Result<Window, KernelError> {
    Window::create(MAX_AGGREGATES, 0).map_err(map_error(AGGREGATES))
}

impl Aggregates {
    /// Starts aggregation. Takes over the window of an earlier daemon.
    pub(in crate::kernel) fn start(maps: &mut Maps) -> Result<Self, KernelError> {
        let mut slot: ArrayOfMaps<_, Window> = maps.table(AGGREGATES)?;
        let running = match slot.get(&0, 0) {
            Ok(left) => left,
            Err(MapError::KeyNotFound) => {
                let fresh = window()?;
                slot.set(0, &fresh, 0).map_err(map_error(AGGREGATES))?;
                fresh
            }
            Err(error) => return Err(map_error(AGGREGATES)(error)),
        };
        Ok(Self {
            running,
            spare: window()?,
        })
    }

    /// Ends the window and starts another. Returns the events of the ended one that stand for decisions not yet
    /// reported.
    pub(in crate::kernel) fn take(
        &mut self,
        maps: &mut Maps,
    ) -> Result<Vec<Aggregated>, KernelError> {
        let mut slot: ArrayOfMaps<_, Window> = maps.table(AGGREGATES)?;
        // Returns when no program uses the other map any more (`maybe_wait_bpf_programs`, 5.10 to 7.2).
        slot.set(0, &self.spare, 0).map_err(map_error(AGGREGATES))?;
        std::mem::swap(&mut self.running, &mut self.spare);
        empty(&mut self.spare)
    }

    /// Stops aggregation: from now on every decision has its own event. Returns what an earlier window held.
    pub(in crate::kernel) fn stop(maps: &mut Maps) -> Result<Vec<Aggregated>, KernelError> {
        let slot: ArrayOfMaps<_, Window> = maps.table(AGGREGATES)?;
        let mut left = match slot.get(&0, 0) {
            Ok(left) => left,
            Err(MapError::KeyNotFound) => return Ok(Vec::new()),
            Err(error) => return Err(map_error(AGGREGATES)(error)),
        };
        // As a write, this returns when no program uses the map any more.
        bpf_sys::delete_slot(maps.fd(AGGREGATES)?, 0).map_err(|source| KernelError::Slot {
            name: AGGREGATES,
            source,
        })?;
        empty(&mut left)
    }
}

/// Removes all entries of a map that no program uses any more.
fn empty(window: &mut Window) -> Result<Vec<Aggregated>, KernelError> {
    let keys: Result<Vec<_>, _> = window.keys().collect();
    let mut events = Vec::new();
    for key in keys.map_err(map_error(AGGREGATES))? {
        let Wire(words) = window.get(&key, 0).map_err(map_error(AGGREGATES))?;
        window.remove(&key).map_err(map_error(AGGREGATES))?;
        let count = words[AGGREGATE_MORE];
        if key.0.kind == AggregateKey::DECISION
            && count > 0
            && let Ok((event, _)) = Event::read_from_prefix(words.as_bytes())
        {
            events.push(Aggregated {
                event,
                count,
                several: zerocopy::transmute!(words[AGGREGATE_SEVERAL]),
            });
        }
    }
    events.sort_by_key(|aggregated| aggregated.event.time);
    Ok(events)
}
