//! The lines of a child's pipe, read by a thread so that the child never blocks.

use anyhow::bail;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long to wait for anything: emulated machines are slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The lines as they come.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver): (Sender<String>, _) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    receiver
}

/// All lines up to the end of the pipe.
pub(crate) fn drain(lines: &Receiver<String>, until: Instant) -> anyhow::Result<Vec<String>> {
    let mut drained = Vec::new();
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => drained.push(line),
            Err(RecvTimeoutError::Disconnected) => return Ok(drained),
            Err(RecvTimeoutError::Timeout) => bail!("it has not ended after {DEADLINE:?}"),
        }
    }
}
