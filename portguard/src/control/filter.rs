//! Which events a monitor gets.

use super::Filter;
use crate::events::DecisionEvent;
use portguard_policy::escape::escape;
use portguard_policy::units;

/// Entries that a filter may have in all: each is compared with every event.
const ENTRIES: usize = 256;

/// A filter whose units are escaped as in events.
pub(super) struct EventFilter(Filter);

impl EventFilter {
    /// The error is for the client.
    pub(super) fn new(mut filter: Filter) -> Result<Self, String> {
        let lengths = [
            filter.verdicts.len(),
            filter.uids.len(),
            filter.ports.len(),
            filter.rules.len(),
            filter.units.len(),
        ];
        let entries: usize = lengths.iter().sum();
        if entries > ENTRIES {
            return Err(format!(
                "a filter has {ENTRIES} entries at most, this one has {entries}"
            ));
        }
        for unit in &mut filter.units {
            *unit = escape(unit.as_bytes());
        }
        Ok(Self(filter))
    }

    pub(super) fn matches(&self, event: &DecisionEvent) -> bool {
        let Self(filter) = self;
        let rule = event.rule.as_deref().unwrap_or_default();
        let port = event.port;
        any(&filter.verdicts, |verdict| *verdict == event.verdict)
            && any(&filter.uids, |uid| *uid == event.uid)
            && any(&filter.ports, |(first, last)| {
                (*first..=*last).contains(&port)
            })
            && any(&filter.rules, |name| name == rule)
            && any(&filter.units, |name| in_unit(event, name))
    }
}

fn any<T>(entries: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    entries.is_empty() || entries.iter().any(matches)
}

/// Whether a rule with this unit would hold for the event's cgroup, as far as its path is known.
fn in_unit(event: &DecisionEvent, unit: &str) -> bool {
    let path = event.cgroup.as_deref().filter(|_| !event.cgroup_cut);
    path.is_some_and(|path| units::names(path).any(|name| name == unit))
}
