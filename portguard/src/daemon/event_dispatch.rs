//! Enriches the kernel's records and hands them to the sinks and monitors.

use crate::account_lookup::AccountLookup;
use crate::account_names::AccountNames;
use crate::control::{EventSender, event_channel, publish};
use crate::events::sinks::Sinks;
use crate::events::{Enricher, SharedEvent};
use crate::kernel::{Aggregated, Record, Records};
use crate::status::Description;
use portguard_common::Event;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Decisions reported in one turn: as many as the monitors' backlog holds without a pause.
const PER_TURN: usize = 1_024;

/// The most records of events that the ring holds, each with a header of 8 bytes.
const IN_RING: usize = (1 << 20) / (size_of::<Event>() + 8);

/// The enricher and the readers.
pub(super) struct EventDispatch {
    enricher: Enricher,
    sinks: Sinks,
    monitors: EventSender,
    /// Aggregated events that wait for their turn: those of one window, as none begins before they are reported.
    queued: VecDeque<Aggregated>,
    /// How many of the ring's records may still be older than the queued events.
    older: usize,
    /// A decision was read while events were queued.
    decided: bool,
    /// Events so far.
    reported: u64,
}

impl EventDispatch {
    pub(super) fn new(enricher: Enricher, sinks: Sinks) -> Self {
        Self {
            enricher,
            sinks,
            monitors: event_channel(),
            queued: VecDeque::new(),
            older: 0,
            decided: false,
            reported: 0,
        }
    }

    pub(super) fn look_up_by(&mut self, accounts: AccountLookup) {
        self.enricher.users = AccountNames::in_background(accounts);
    }

    pub(super) fn forget_names(&mut self) {
        self.enricher.users.forget();
    }

    pub(super) fn register_policy(&mut self, description: &Description) {
        self.enricher.register_policy(description);
    }

    /// Queues events that stand for many decisions; [`EventDispatch::drain`] reports them.
    pub(super) fn queue(&mut self, aggregated: Vec<Aggregated>) {
        self.queued.extend(aggregated);
        self.older = IN_RING;
    }

    fn report(&mut self, aggregated: &Aggregated, records: &mut Records) {
        if self.enricher.lacks_path(&aggregated.event)
            && let Err(error) = records.send_path_again(aggregated.event.executable)
        {
            // Events of this program have no path.
            log::warn!("{error}");
        }
        let Some(event) = self.enricher.enrich(aggregated) else {
            return;
        };
        self.reported += 1;
        let event = Arc::new(SharedEvent::new(event));
        // First to the monitors: the sinks' queues count the event's line where others use it.
        publish(&self.monitors, &event);
        self.sinks.send(&event);
    }

    /// Reports one turn's events. Returns whether a window is to begin, as the ring had a decision, and whether there may
    /// be more.
    pub(super) fn drain(&mut self, records: &mut Records) -> (bool, bool) {
        for _ in 0..PER_TURN {
            if let Some(aggregated) = self.next_queued() {
                self.report(&aggregated, records);
            } else if let Some(record) = records.next_record() {
                self.older = self.older.saturating_sub(1);
                self.read(record, records);
            } else if self.queued.is_empty() {
                return (std::mem::take(&mut self.decided), false);
            } else {
                self.older = 0;
            }
        }
        // No window begins before the events of the one that ended are reported.
        let begin = self.queued.is_empty() && std::mem::take(&mut self.decided);
        (begin, true)
    }

    /// The next queued event. It waits for the records that were in the ring before it: the first of its decisions, and
    /// the path of its program.
    fn next_queued(&mut self) -> Option<Aggregated> {
        if self.older > 0 {
            return None;
        }
        self.queued.pop_front()
    }

    fn read(&mut self, record: Record, records: &mut Records) {
        match record {
            Record::Decision(event) => {
                self.decided = true;
                self.report(&event.into(), records);
            }
            Record::Cgroup { id, path, missing } => {
                self.enricher.cgroups.learn(id, &path, missing);
            }
            Record::Executable {
                id,
                path,
                rootless,
                missing,
            } => {
                let known = &mut self.enricher.executables;
                known.learn(id, &path, rootless, missing);
            }
        }
    }

    pub(super) fn monitors(&self) -> EventSender {
        self.monitors.clone()
    }

    pub(super) fn reopen_sinks(&mut self) {
        self.sinks.reopen();
    }

    /// Events so far. One may stand for several decisions.
    pub(super) const fn reported(&self) -> u64 {
        self.reported
    }

    /// Decisions that the sinks dropped, by sink.
    pub(super) fn dropped(&self) -> BTreeMap<String, u64> {
        self.sinks.dropped()
    }

    /// Waits until all is written, `timeout` at most. Returns how many decisions the sinks dropped.
    pub(super) fn close(&mut self, timeout: Duration) -> u64 {
        self.sinks.close(timeout);
        self.dropped().values().sum()
    }
}
