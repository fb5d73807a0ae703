//! Windows of folding: equal decisions of about a second, and how many of each there were.

use super::bpf;
use super::error::{KernelError, map_error};
use super::maps::Maps;
use super::wire::Wire;
use aya::maps::{ArrayOfMaps, HashMap, MapData, MapError};
use portguard_common::{AGGREGATE_MORE, AggregateKey, AggregateWords, Event, MAX_AGGREGATES};
use zerocopy::{FromBytes as _, IntoBytes as _};

const AGGREGATES: &str = "AGGREGATES";

type Window = HashMap<MapData, Wire<AggregateKey>, Wire<AggregateWords>>;

/// The two maps that take turns: the programs write one, and the other is empty.
pub(super) struct Folds {
    running: Window,
    spare: Window,
}

fn window() -> Result<Window, KernelError> {
    Window::create(MAX_AGGREGATES, 0).map_err(map_error(AGGREGATES))
}

impl Folds {
    /// Begins to fold. What a daemon before this one left in its window is this one's now.
    pub(super) fn begin(maps: &mut Maps) -> Result<Self, KernelError> {
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

    /// Ends the window and begins another: the events of the one that ended that stand for more decisions than
    /// were reported, and for how many.
    pub(super) fn turn(&mut self, maps: &mut Maps) -> Result<Vec<(Event, u64)>, KernelError> {
        let mut slot: ArrayOfMaps<_, Window> = maps.table(AGGREGATES)?;
        // Returns when no program uses the other map any more (`maybe_wait_bpf_programs`, 5.10 to 7.2).
        slot.set(0, &self.spare, 0).map_err(map_error(AGGREGATES))?;
        std::mem::swap(&mut self.running, &mut self.spare);
        empty(&mut self.spare)
    }

    /// Has every decision reported by itself from now on: what an earlier window held.
    pub(super) fn end(maps: &mut Maps) -> Result<Vec<(Event, u64)>, KernelError> {
        let slot: ArrayOfMaps<_, Window> = maps.table(AGGREGATES)?;
        let mut left = match slot.get(&0, 0) {
            Ok(left) => left,
            Err(MapError::KeyNotFound) => return Ok(Vec::new()),
            Err(error) => return Err(map_error(AGGREGATES)(error)),
        };
        // As a write, this returns when no program uses the map any more.
        bpf::delete_slot(maps.fd(AGGREGATES)?, 0).map_err(|source| KernelError::Slot {
            name: AGGREGATES,
            source,
        })?;
        empty(&mut left)
    }
}

/// Takes everything out of a map that no program uses.
fn empty(window: &mut Window) -> Result<Vec<(Event, u64)>, KernelError> {
    let keys: Result<Vec<_>, _> = window.keys().collect();
    let mut events = Vec::new();
    for key in keys.map_err(map_error(AGGREGATES))? {
        let Wire(words) = window.get(&key, 0).map_err(map_error(AGGREGATES))?;
        window.remove(&key).map_err(map_error(AGGREGATES))?;
        let more = words[AGGREGATE_MORE];
        if key.0.kind == AggregateKey::DECISION
            && more > 0
            && let Ok((event, _)) = Event::read_from_prefix(words.as_bytes())
        {
            events.push((event, more));
        }
    }
    events.sort_by_key(|(event, _)| event.time);
    Ok(events)
}
