//! An event on its way to all its readers, with its JSON line made once.

use super::DecisionEvent;
use std::sync::OnceLock;

/// A decision event and its line.
pub struct SharedEvent {
    event: DecisionEvent,
    line: OnceLock<String>,
}

impl SharedEvent {
    /// The line is made when a reader first asks for it.
    #[must_use]
    pub const fn new(event: DecisionEvent) -> Self {
        let line = OnceLock::new();
        Self { event, line }
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &DecisionEvent {
        &self.event
    }

    /// The memory that it takes with its line, at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// The line's keys, numbers and quotes.
        const FRAME: usize = 1024;
        // In the line a backslash, with which texts are escaped, is two.
        let DecisionEvent {
            rule,
            user,
            comm,
            exe,
            cgroup,
            unit,
            container_id,
            pod_uid,
            ..
        } = &self.event;
        let texts = [rule, user, comm, exe, cgroup, unit, container_id, pod_uid];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>() + FRAME + 3 * texts
    }

    /// The event as a line of JSON, its newline included.
    pub fn json_line(&self) -> &str {
        self.line.get_or_init(|| self.event.json_line())
    }
}

impl From<DecisionEvent> for SharedEvent {
    fn from(event: DecisionEvent) -> Self {
        Self::new(event)
    }
}
