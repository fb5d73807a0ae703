//! The channel from the daemon to all its monitors.

use crate::events::SharedEvent;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events kept for monitors that are behind, all of them together. A monitor that is further behind loses the
/// oldest. What the daemon reports in one turn must fit in. The texts of an event are bounded, so the memory is too.
const BACKLOG: usize = 2_048;

/// The daemon's end of the channel.
pub type EventSender = broadcast::Sender<Arc<SharedEvent>>;

/// A channel without monitors.
#[must_use]
pub fn event_channel() -> EventSender {
    EventSender::new(BACKLOG)
}

/// Sends an event to the monitors; does nothing without any.
pub fn publish(monitors: &EventSender, event: &Arc<SharedEvent>) {
    if monitors.receiver_count() > 0 {
        // The last monitor may just have gone.
        let _ = monitors.send(Arc::clone(event));
    }
}
