//! Logs once when a sink fails, and once when it works again.

use crate::stderr::log_line;
use std::io;
use std::time::{Duration, Instant};

/// Between two logged failures of one sink: a disk at its limit fails and works in turn.
const QUIET: Duration = Duration::from_secs(60);

/// Whether a sink fails, and what was logged.
pub(super) struct FailureNotice {
    sink: &'static str,
    /// Decisions dropped in the current failure; `None` while the sink works.
    dropped: Option<u64>,
    /// Whether this failure was logged.
    logged: bool,
    last_logged: Option<Instant>,
}

impl FailureNotice {
    pub(super) const fn new(sink: &'static str) -> Self {
        Self {
            sink,
            dropped: None,
            logged: false,
            last_logged: None,
        }
    }

    /// Records a failure. Returns the line to log.
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
        self.logged = !self.last_logged.is_some_and(recent);
        if !self.logged {
            return None;
        }
        self.last_logged = Some(now);
        // Enforcement goes on: a full disk or a closed pipe must not open a port.
        Some(format!(
            "portguard: sink {}: cannot write decisions: {error}; they are counted as dropped until it \
             works again, enforcement goes on",
            self.sink
        ))
    }

    /// Records a success. Returns the line to log.
    pub(super) fn recovered(&mut self) -> Option<String> {
        let dropped = self.dropped.take()?;
        let (sink, logged) = (self.sink, self.logged);
        logged.then(|| {
            format!("portguard: sink {sink}: works again, {dropped} decisions were dropped")
        })
    }
}

/// Logs the line, where there is one.
pub(super) fn log(line: Option<String>) {
    if let Some(line) = line {
        log_line!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_notice_logs_start_and_end_once() {
        let full = || io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let mut notice = FailureNotice::new("file");
        let start = Instant::now();
        assert_eq!(notice.recovered(), None);
        assert_eq!(
            notice.failed(&full(), 3, start).unwrap(),
            "portguard: sink file: cannot write decisions: No space left on device (os error 28); they \
             are counted as dropped until it works again, enforcement goes on"
        );
        assert_eq!(notice.failed(&full(), 4, start), None);
        assert_eq!(
            notice.recovered().unwrap(),
            "portguard: sink file: works again, 7 decisions were dropped"
        );
        assert_eq!(notice.recovered(), None);
        // Soon again: neither its start nor its end is logged.
        assert_eq!(notice.failed(&full(), 1, start + QUIET / 2), None);
        assert_eq!(notice.recovered(), None);
        assert!(notice.failed(&full(), 1, start + QUIET).is_some());
    }
}
