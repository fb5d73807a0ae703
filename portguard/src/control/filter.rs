//! Which decisions a monitor gets.

use super::Filter;
use crate::events::DecisionEvent;
use portguard_policy::escape::escape;

/// Entries that a filter may have in all: each is held against every decision.
const ENTRIES: usize = 256;

/// What the last component of a unit's cgroup ends in.
const UNITS: [&str; 3] = [".service", ".socket", ".scope"];

/// A filter in the words of events.
pub(super) struct EventFilter(Filter);

impl EventFilter {
    /// # Errors
    /// In words, where the filter is too long.
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

    pub(super) fn has(&self, decided: &DecisionEvent) -> bool {
        let Self(filter) = self;
        let rule = decided.rule.as_deref().unwrap_or_default();
        let port = decided.port;
        any(&filter.verdicts, |verdict| *verdict == decided.verdict)
            && any(&filter.uids, |uid| *uid == decided.uid)
            && any(&filter.ports, |(first, last)| {
                (*first..=*last).contains(&port)
            })
            && any(&filter.rules, |name| name == rule)
            && any(&filter.units, |name| unit(decided) == Some(name))
    }
}

fn any<T>(entries: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    entries.is_empty() || entries.iter().any(matches)
}

fn unit(decided: &DecisionEvent) -> Option<&str> {
    let mut names = decided.cgroup.as_deref()?.rsplit('/');
    names.find(|name| UNITS.iter().any(|ending| name.ends_with(ending)))
}
