//! From the kernel's records to whoever reads them.

use crate::control::{self, Published};
use crate::events::Enricher;
use crate::events::sinks::Sinks;
use crate::kernel::{Record, Records};
use portguard_common::Event;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Decisions that are reported in one go: as many as the way to the monitors bears without a pause.
const AT_ONCE: usize = 1_024;

/// Enriches events and hands them on.
pub(super) struct EventDispatch {
    pub(super) enricher: Enricher,
    pub(super) sinks: Sinks,
    /// The way to the monitors.
    pub(super) events: broadcast::Sender<Arc<Published>>,
    /// What was folded, on its way.
    folded: VecDeque<(Event, u64)>,
}

impl EventDispatch {
    pub(super) fn new(enricher: Enricher, sinks: Sinks) -> Self {
        Self {
            enricher,
            sinks,
            events: control::events(),
            folded: VecDeque::new(),
        }
    }

    /// Takes events that stand for many decisions; [`EventDispatch::drain`] reports them.
    pub(super) fn take(&mut self, folded: Vec<(Event, u64)>) {
        self.folded.extend(folded);
    }

    /// Reports a decision that stands for `count`.
    fn report(&mut self, event: &Event, count: u64) {
        let Some(mut decided) = self.enricher.enrich(event) else {
            return;
        };
        decided.count = count;
        let decided = Arc::new(decided);
        self.sinks.send(&decided);
        control::publish(&self.events, decided);
    }

    /// Reports what there is, a part at a time: whether there was a decision in the ring, and whether there may be
    /// more.
    pub(super) fn drain(&mut self, records: &mut Records) -> (bool, bool) {
        let mut any = false;
        for _ in 0..AT_ONCE {
            if let Some((event, count)) = self.folded.pop_front() {
                self.report(&event, count);
                continue;
            }
            match records.next_record() {
                Some(Record::Decision(event)) => {
                    any = true;
                    self.report(&event, 1);
                }
                Some(Record::Cgroup { id, path, missing }) => {
                    self.enricher.cgroups.learn(id, &path, missing);
                }
                None => return (any, false),
            }
        }
        (any, true)
    }

    /// Decisions that the sinks lost, each under its name.
    pub(super) fn dropped(&self) -> BTreeMap<String, u64> {
        self.sinks.dropped()
    }

    /// Waits until all is written, for a while; the decisions that never were.
    pub(super) fn close(&mut self, patience: Duration) -> u64 {
        self.sinks.close(patience);
        self.dropped().values().sum()
    }
}
