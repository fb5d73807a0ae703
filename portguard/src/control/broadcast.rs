//! A decision on its way to all monitors: written as JSON once, whoever reads it.

use crate::events::DecisionEvent;
use crate::events::sinks::Format;
use std::sync::{Arc, OnceLock};
use tokio::sync::broadcast;

/// Decisions that are kept for monitors that are behind, all of them together. A monitor that is further
/// behind loses the oldest. What one drain of the ring may publish without a pause must fit in.
const BACKLOG: usize = 2_048;

/// A decision and its line.
pub struct Published {
    decided: Arc<DecisionEvent>,
    line: OnceLock<String>,
}

impl Published {
    /// The decision.
    #[must_use]
    pub fn decided(&self) -> &DecisionEvent {
        &self.decided
    }

    /// The decision as a line of JSON, its newline included.
    pub fn line(&self) -> &str {
        self.line.get_or_init(|| Format::Json.line(&self.decided))
    }
}

/// The way to the monitors.
#[must_use]
pub fn events() -> broadcast::Sender<Arc<Published>> {
    broadcast::Sender::new(BACKLOG)
}

/// Hands a decision to the monitors; nothing is done where there are none.
pub fn publish(events: &broadcast::Sender<Arc<Published>>, decided: impl Into<Arc<DecisionEvent>>) {
    if events.receiver_count() > 0 {
        let published = Published {
            decided: decided.into(),
            line: OnceLock::new(),
        };
        // The last monitor may just have gone.
        let _ = events.send(Arc::new(published));
    }
}
