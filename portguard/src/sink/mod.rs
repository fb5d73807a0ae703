//! Where decisions go: a thread of its own writes them, so that a reader that stops reading stops
//! nothing else.

mod json;
mod text;

use crate::event::Decided;
use crate::say::say;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Decisions that may wait for a slow reader.
const WAITING: usize = 8_192;

/// How decisions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// A table line each, coloured or not.
    Text {
        /// Whether to colour verdicts.
        color: bool,
    },
}

impl Format {
    /// What stands above the first line; empty where nothing does.
    #[must_use]
    pub fn heading(self) -> String {
        match self {
            Self::Json => String::new(),
            Self::Text { color } => text::heading(color),
        }
    }

    /// A decision as a line, its newline included.
    #[must_use]
    pub fn line(self, decided: &Decided) -> String {
        match self {
            Self::Json => json::line(decided),
            Self::Text { color } => text::line(decided, color),
        }
    }
}

/// The way to the writing thread.
pub struct Sink {
    sender: Option<SyncSender<Box<Decided>>>,
    writer: Option<JoinHandle<()>>,
    dropped: u64,
}

impl Sink {
    /// Starts writing to standard output.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn stdout(format: Format) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let writer = std::thread::Builder::new()
            .name("portguard-sink".into())
            .spawn(move || write_all(&receiver, format))?;
        Ok(Self {
            sender: Some(sender),
            writer: Some(writer),
            dropped: 0,
        })
    }

    /// Hands a decision over; drops and counts it where the reader is too far behind.
    pub fn send(&mut self, decided: Decided) {
        let Some(sender) = &self.sender else { return };
        match sender.try_send(Box::new(decided)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped += 1,
        }
    }

    /// Decisions that were dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until all is written, `patience` at most: a reader that hangs must not keep us.
    pub fn close(&mut self, patience: Duration) {
        self.sender = None;
        let Some(writer) = self.writer.take() else {
            return;
        };
        let end = Instant::now() + patience;
        while !writer.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write_all(receiver: &Receiver<Box<Decided>>, format: Format) {
    let mut out = std::io::stdout().lock();
    let mut failed = out.write_all(format.heading().as_bytes()).is_err();
    while let Ok(decided) = receiver.recv() {
        let line = format.line(&decided);
        match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                // Enforcement goes on: a full disk or a closed pipe must not open a port.
                say!(
                    "portguard: cannot write decisions to standard output: {error}; enforcement goes on"
                );
            }
            Err(_) => {}
        }
    }
}
