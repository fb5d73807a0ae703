//! Aggregation: equal decisions within about a second become one event with their count.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, map_error, slot_error};
use crate::kernel::maps::inner_maps::id_of;
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::wire::Wire;
use aya::maps::{ArrayOfMaps, HashMap, MapData};
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
        let running = match left_in(maps)? {
            Some(left) => left,
            None => {
                let fresh = window()?;
                maps.pin_inner(AGGREGATES, &fresh)?;
                let mut slot: ArrayOfMaps<_, Window> = maps.table(AGGREGATES)?;
                slot.set(0, &fresh, 0).map_err(map_error(AGGREGATES))?;
                fresh
            }
        };
        let aggregates = Self {
            running,
            spare: window()?,
        };
        aggregates.pin(maps)?;
        let ids = [&aggregates.running, &aggregates.spare].map(|map| id_of(AGGREGATES, map));
        let [running, spare] = ids;
        maps.keep_inner(AGGREGATES, &[running?, spare?]);
        Ok(aggregates)
    }

    /// Pins both maps beside the others, where these are pinned.
    pub(in crate::kernel) fn pin(&self, maps: &Maps) -> Result<(), KernelError> {
        maps.pin_inner(AGGREGATES, &self.running)?;
        maps.pin_inner(AGGREGATES, &self.spare)
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
        let Some(mut left) = left_in(maps)? else {
            return Ok(Vec::new());
        };
        // As a write, this returns when no program uses the map any more.
        bpf_sys::delete_slot(maps.fd(AGGREGATES)?, 0).map_err(slot_error(AGGREGATES))?;
        maps.keep_inner(AGGREGATES, &[]);
        empty(&mut left)
    }
}

/// The window of an earlier daemon.
fn left_in(maps: &Maps) -> Result<Option<Window>, KernelError> {
    let left = maps.inner(AGGREGATES, 0)?.map(Window::try_from);
    left.transpose().map_err(map_error(AGGREGATES))
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
