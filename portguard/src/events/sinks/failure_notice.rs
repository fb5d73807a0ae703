//! What is said of a sink that cannot write: once when it begins, once when it is over.

use crate::stderr::log_line;
use std::io;
use std::time::{Duration, Instant};

/// Between two outages of one sink that are spoken of: a disk at its limit fails and works in turn.
const QUIET: Duration = Duration::from_secs(60);

/// Whether a sink fails, and what was said of it.
pub(super) struct FailureNotice {
    sink: &'static str,
    /// Decisions dropped in this outage; `None` where there is none.
    dropped: Option<u64>,
    /// Whether this one was said.
    told: bool,
    last_told: Option<Instant>,
}

impl FailureNotice {
    pub(super) const fn new(sink: &'static str) -> Self {
        Self {
            sink,
            dropped: None,
            told: false,
            last_told: None,
        }
    }

    /// Takes in a failure; what there is to say of it.
    pub(super) fn failed(
        &mut self,
        error: &io::Error,
        dropped: u64,
        now: Instant,
    ) -> Option<String> {
        if let Some(so_far) = &mut self.dropped {
            *so_far += dropped;
            return None;
        }
        self.dropped = Some(dropped);
        let recent = |last: Instant| now.duration_since(last) < QUIET;
        self.told = !self.last_told.is_some_and(recent);
        if !self.told {
            return None;
        }
        self.last_told = Some(now);
        // Enforcement goes on: a full disk or a closed pipe must not open a port.
        Some(format!(
            "portguard: sink {}: cannot write decisions: {error}; they are counted as dropped until it \
             works again, enforcement goes on",
            self.sink
        ))
    }

    /// Takes in a success; what there is to say of it.
    pub(super) fn recovered(&mut self) -> Option<String> {
        let dropped = self.dropped.take()?;
        let (sink, told) = (self.sink, self.told);
        told.then(|| {
            format!("portguard: sink {sink}: works again, {dropped} decisions were dropped")
        })
    }
}

/// Says it, if it is anything.
pub(super) fn log(words: Option<String>) {
    if let Some(words) = words {
        log_line!("{words}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_once_and_its_end_once() {
        let full = || io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let mut outage = FailureNotice::new("file");
        let start = Instant::now();
        assert_eq!(outage.recovered(), None);
        assert_eq!(
            outage.failed(&full(), 3, start).unwrap(),
            "portguard: sink file: cannot write decisions: No space left on device (os error 28); they \
             are counted as dropped until it works again, enforcement goes on"
        );
        assert_eq!(outage.failed(&full(), 4, start), None);
        assert_eq!(
            outage.recovered().unwrap(),
            "portguard: sink file: works again, 7 decisions were dropped"
        );
        assert_eq!(outage.recovered(), None);
        // Soon again: neither its beginning nor its end is worth a line.
        assert_eq!(outage.failed(&full(), 1, start + QUIET / 2), None);
        assert_eq!(outage.recovered(), None);
        assert!(outage.failed(&full(), 1, start + QUIET).is_some());
    }
}
