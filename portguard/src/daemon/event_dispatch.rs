//! Enriches the kernel's records and hands them to the sinks and monitors.

use crate::account_lookup::AccountLookup;
use crate::account_names::AccountNames;
use crate::control::{EventSender, event_channel, publish};
use crate::events::sinks::Sinks;
use crate::events::{Enricher, SharedEvent};
use crate::kernel::{Aggregated, Record, Records};
use crate::status::Description;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Decisions reported in one turn: as many as the monitors' backlog holds without a pause.
const PER_TURN: usize = 1_024;

/// The enricher and the readers.
pub(super) struct EventDispatch {
    enricher: Enricher,
    sinks: Sinks,
    monitors: EventSender,
    /// Aggregated events that wait for their turn: those of one window, as none begins before they are reported.
    queued: VecDeque<Aggregated>,
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
    }

    fn report(&mut self, aggregated: &Aggregated) {
        let Some(event) = self.enricher.enrich(aggregated) else {
            return;
        };
        self.reported += 1;
        let event = Arc::new(SharedEvent::new(event));
        // First to the monitors: the sinks' queues count the event's line where others use it.
        publish(&self.monitors, &event);
        self.sinks.send(&event);
    }

    /// Reports one turn's events. Returns whether the ring had a decision, and whether there may be more.
    pub(super) fn drain(&mut self, records: &mut Records) -> (bool, bool) {
        let mut any = false;
        for _ in 0..PER_TURN {
            if let Some(aggregated) = self.queued.pop_front() {
                self.report(&aggregated);
                continue;
            }
            match records.next_record() {
                Some(Record::Decision(event)) => {
                    any = true;
                    self.report(&event.into());
                }
                Some(Record::Cgroup { id, path, missing }) => {
                    self.enricher.cgroups.learn(id, &path, missing);
                }
                None => return (any, false),
            }
        }
        (any, true)
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
