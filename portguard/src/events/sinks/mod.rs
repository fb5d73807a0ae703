//! Where decisions go: any number of sinks, each with a thread and a bounded queue of its own, so that a
//! reader that stops reading stops nothing else.

mod failure_notice;
mod file;
mod journald;
mod line_writer;
#[cfg(feature = "otlp")]
mod otlp;
mod spec;
mod text;
mod worker;

pub use spec::{SinkSpec, SinkSpecError};

use crate::events::{DecisionEvent, SharedEvent};
use line_writer::LineWriter;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use worker::Worker;

/// How decisions are written as lines.
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
    /// A decision as a line, its newline included.
    #[must_use]
    pub fn line(self, decided: &DecisionEvent) -> String {
        match self {
            Self::Json => decided.json_line(),
            Self::Text { color } => text::line(decided, color),
        }
    }

    /// What stands above the first line; empty where nothing does.
    #[must_use]
    pub fn heading(self) -> String {
        match self {
            Self::Json => String::new(),
            Self::Text { color } => text::heading(color),
        }
    }
}

/// Why a sink cannot be opened.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The file of `file:PATH`.
    #[error(
        "--sink file:{}: cannot open it: {source}; see that its directory is there and may be written to",
        path.display()
    )]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// journald's socket.
    #[error(
        "--sink journald: cannot reach {}: {source}; start systemd-journald or leave this sink out",
        path.display()
    )]
    Journald {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system refused a descriptor or a thread.
    #[error("--sink {sink}: cannot {what}: {source}")]
    System {
        /// Which sink.
        sink: &'static str,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// One sink twice.
    #[error("--sink {0} is given twice: give it once")]
    Twice(SinkSpec),
    /// `none` beside others.
    #[error("--sink none stands alone: leave it or the other sinks out")]
    NoneAndOthers,
}

/// All sinks of a daemon.
#[derive(Default)]
pub struct Sinks {
    workers: Vec<Worker>,
}

impl Sinks {
    /// No sinks: decisions are not written anywhere.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens what `--sink` names, standard output where it names nothing; `format` is standard output's.
    ///
    /// # Errors
    /// Where one cannot be opened, or they do not go together.
    pub fn open(choices: &[SinkSpec], format: Format) -> Result<Self, SinkError> {
        let mut sinks = Self::new();
        if choices.is_empty() {
            sinks.add(&SinkSpec::Stdout, format)?;
        }
        if choices.len() > 1 && choices.contains(&SinkSpec::None) {
            return Err(SinkError::NoneAndOthers);
        }
        for (at, choice) in choices.iter().enumerate() {
            if choices.iter().take(at).any(|before| before == choice) {
                return Err(SinkError::Twice(choice.clone()));
            }
            sinks.add(choice, format)?;
        }
        Ok(sinks)
    }

    /// Opens one more.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn add(&mut self, choice: &SinkSpec, format: Format) -> Result<(), SinkError> {
        let writer: Box<dyn worker::Writer> = match choice {
            SinkSpec::None => return Ok(()),
            SinkSpec::Stdout => Box::new(LineWriter::stdout(format)?),
            SinkSpec::File(path) => Box::new(file::FileSink::open(path)?),
            #[cfg(feature = "otlp")]
            SinkSpec::Otlp(url) => Box::new(otlp::Otlp::new(url)),
            SinkSpec::Journald(path) => Box::new(journald::Journald::open(path)?),
        };
        self.workers.push(Worker::start(choice.name(), writer)?);
        Ok(())
    }

    /// Hands an event to every sink. One that is too far behind drops and counts it; nothing ever waits.
    pub fn send(&mut self, event: &Arc<SharedEvent>) {
        // Another reader may make the line while the event waits, and it then waits too. A single reader makes it
        // when the event's turn has come.
        let line_waits = self.workers.len() > 1 || Arc::strong_count(event) > 1;
        for worker in &mut self.workers {
            worker.send(event, line_waits);
        }
    }

    /// Decisions that were not written, by the name of the sink (`stdout`, `journald`, `file`, `otlp`): it
    /// was too slow, or writing failed. An event that stands for many counts as many.
    #[must_use]
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let mut dropped = BTreeMap::new();
        for worker in &self.workers {
            *dropped.entry(worker.name().to_owned()).or_default() += worker.dropped();
        }
        dropped
    }

    /// Has files opened anew by their paths (SIGUSR1), after what waits is written, or before that where no
    /// room is left in the queue. One that cannot be opened is said, and goes on where it was.
    pub fn reopen(&mut self) {
        for worker in &self.workers {
            worker.reopen();
        }
    }

    /// Waits until all is written, `patience` at most: a reader that hangs must not keep us. What it has not
    /// taken by then is dropped and counted.
    pub fn close(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        for worker in &mut self.workers {
            worker.close();
        }
        for worker in &mut self.workers {
            worker.wait(end);
        }
    }
}
