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
