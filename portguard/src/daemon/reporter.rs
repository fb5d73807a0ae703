//! From the kernel's records to whoever reads them.

use crate::event::Enricher;
use crate::kernel::{Record, Records};
use crate::sink::Sink;
use portguard_common::Event;
use std::time::Duration;

/// Records that are read in one go.
const AT_ONCE: usize = 1_024;

/// Enriches events and hands them on.
pub(super) struct Reporter {
    pub(super) enricher: Enricher,
    sink: Sink,
}

impl Reporter {
    pub(super) const fn new(enricher: Enricher, sink: Sink) -> Self {
        Self { enricher, sink }
    }

    /// Reports a decision that stands for `count`.
    pub(super) fn report(&mut self, event: &Event, count: u64) {
        let mut decided = self.enricher.enrich(event);
        decided.count = count;
        self.sink.send(decided);
    }

    /// Reports what the ring holds: whether there was a decision, and whether there may be more.
    pub(super) fn drain(&mut self, records: &mut Records) -> (bool, bool) {
        let mut any = false;
        for _ in 0..AT_ONCE {
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

    /// Waits until all is written, for a while; the decisions that never were.
    pub(super) fn close(&mut self, patience: Duration) -> u64 {
        self.sink.close(patience);
        self.sink.dropped()
    }
}
