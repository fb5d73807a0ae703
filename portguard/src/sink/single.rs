//! Standard output as the only sink.

use super::{Format, SinkChoice, Sinks};
use crate::event::Decided;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Standard output as the only sink.
pub struct Sink(Sinks);

impl Sink {
    /// Starts writing to standard output.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn stdout(format: Format) -> io::Result<Self> {
        let sinks = Sinks::open(&[SinkChoice::Stdout], format);
        sinks.map(Self).map_err(io::Error::other)
    }

    /// Hands a decision over; drops and counts it where the reader is too far behind.
    pub fn send(&mut self, decided: Decided) {
        self.0.send(&Arc::new(decided));
    }

    /// Decisions that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped().into_values().sum()
    }

    /// Waits until all is written, `patience` at most.
    pub fn close(&mut self, patience: Duration) {
        self.0.close(patience);
    }
}
