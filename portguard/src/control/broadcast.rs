//! The channel from the daemon to all its monitors.

use crate::events::SharedEvent;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Events kept for monitors that are behind, all of them together. A monitor that is further behind loses the
/// oldest. What the daemon reports in one turn must fit in.
const BACKLOG: usize = 2_048;

/// The same in bytes. Usual events fit in; long paths may not take more memory.
const BACKLOG_BYTES: usize = 6 * 1024 * 1024;

/// The daemon's end of the channel.
///
/// The channel itself has weak references only: an event is there as long as the backlog has it.
#[derive(Clone)]
pub struct EventSender {
    channel: broadcast::Sender<Weak<SharedEvent>>,
    backlog: Arc<Mutex<Backlog>>,
}

/// A monitor's end of the channel.
pub(super) struct EventReceiver(broadcast::Receiver<Weak<SharedEvent>>);

/// What a monitor receives.
pub(super) enum Received {
    Event(Arc<SharedEvent>),
    /// It was too slow for so many.
    Dropped(u64),
}

/// The newest events.
#[derive(Default)]
struct Backlog {
    events: VecDeque<Arc<SharedEvent>>,
    bytes: usize,
}

impl Backlog {
    fn add(&mut self, event: &Arc<SharedEvent>) {
        self.bytes += event.bytes();
        self.events.push_back(Arc::clone(event));
        while self.events.len() > BACKLOG || self.bytes > BACKLOG_BYTES {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }
}

/// A channel without monitors.
#[must_use]
pub fn event_channel() -> EventSender {
    EventSender {
        channel: broadcast::Sender::new(BACKLOG),
        backlog: Arc::default(),
    }
}

/// Sends an event to the monitors; does nothing without any.
pub fn publish(monitors: &EventSender, event: &Arc<SharedEvent>) {
    let mut backlog = (monitors.backlog.lock()).unwrap_or_else(PoisonError::into_inner);
    if monitors.receiver_count() == 0 {
        if !backlog.events.is_empty() {
            *backlog = Backlog::default();
        }
        return;
    }
    backlog.add(event);
    // The last monitor may just have gone.
    let _ = monitors.channel.send(Arc::downgrade(event));
}

impl EventSender {
    /// How many monitors there are.
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.channel.receiver_count()
    }

    pub(super) fn subscribe(&self) -> EventReceiver {
        EventReceiver(self.channel.subscribe())
    }
}

impl EventReceiver {
    /// Waits for the next; `None` where the daemon has ended.
    pub(super) async fn recv(&mut self) -> Option<Received> {
        match self.0.recv().await {
            Ok(event) => Some(Received::of(&event)),
            Err(RecvError::Lagged(dropped)) => Some(Received::Dropped(dropped)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next, where there is one.
    pub(super) fn try_recv(&mut self) -> Option<Received> {
        match self.0.try_recv() {
            Ok(event) => Some(Received::of(&event)),
            Err(TryRecvError::Lagged(dropped)) => Some(Received::Dropped(dropped)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

impl Received {
    fn of(event: &Weak<SharedEvent>) -> Self {
        event.upgrade().map_or(Self::Dropped(1), Self::Event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::DecisionEvent;

    fn long(bytes: usize) -> Arc<SharedEvent> {
        let event: DecisionEvent = serde_json::from_str(include_str!("../../tests/event.json"))
            .unwrap_or_else(|error| panic!("{error}"));
        let exe = Some("x".repeat(bytes));
        Arc::new(SharedEvent::new(DecisionEvent { exe, ..event }))
    }

    #[test]
    fn backlog_is_bounded_in_bytes_and_counts_what_it_drops() {
        const EACH: usize = 16 * 1024;
        let channel = event_channel();
        let mut monitor = channel.subscribe();
        let mut sent = Vec::new();
        for _ in 0..1_000 {
            let event = long(EACH);
            sent.push(Arc::downgrade(&event));
            publish(&channel, &event);
        }
        let kept = sent.iter().filter(|event| event.strong_count() > 0).count();
        assert!(kept > 100 && kept * EACH < BACKLOG_BYTES, "{kept} are kept");
        let (mut events, mut dropped) = (0, 0);
        while let Some(received) = monitor.try_recv() {
            match received {
                Received::Event(_) => events += 1,
                Received::Dropped(more) => dropped += more,
            }
        }
        assert_eq!((events, dropped), (kept, 1_000 - kept as u64));
        // Short ones are bounded by their number.
        for _ in 0..2 * BACKLOG {
            publish(&channel, &long(1));
        }
        let backlog = || {
            channel
                .backlog
                .lock()
                .map_or(0, |backlog| backlog.events.len())
        };
        assert_eq!(backlog(), BACKLOG);
        // Nothing is kept for nobody.
        drop(monitor);
        publish(&channel, &long(1));
        assert_eq!(backlog(), 0);
    }
}
