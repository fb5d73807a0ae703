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
use crate::sandbox::Sandbox;
use line_writer::LineWriter;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use worker::Worker;

/// The format of decision lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// A table row each.
    Text(Layout),
}

/// What a table of decisions looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Whether to colour verdicts.
    pub color: bool,
    /// The width of the terminal, if it is one.
    pub columns: Option<u16>,
}

impl Format {
    /// A decision as a line, its newline included.
    #[must_use]
    pub fn line(self, decided: &DecisionEvent) -> String {
        match self {
            Self::Json => decided.json_line(),
            Self::Text(layout) => text::line(decided, layout),
        }
    }

    /// The heading above the first line; empty where there is none.
    #[must_use]
    pub fn heading(self) -> String {
        match self {
            Self::Json => String::new(),
            Self::Text(layout) => text::heading(layout),
        }
    }
}

/// Why a sink cannot be opened.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The file of `file:PATH`.
    #[error(
        "--sink file:{}: cannot open it: {source}; check that its directory exists and is writable",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file of `file:PATH` is one that another user could have put there.
    #[error("--sink file:{}: {why}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it is, and the fix.
        why: String,
    },
    /// journald's socket.
    #[error(
        "--sink journald: cannot reach {}: {source}; start systemd-journald or omit this sink",
        path.display()
    )]
    Journald {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused a descriptor or a thread.
    #[error("--sink {sink}: cannot {what}: {source}")]
    System {
        /// The sink.
        sink: &'static str,
        /// The failed step.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The same sink twice.
    #[error("--sink {0} is given twice: give it once")]
    Twice(SinkSpec),
    /// `none` beside others.
    #[error("--sink none cannot be combined with other sinks: omit it or the others")]
    NoneAndOthers,
}

/// All sinks of a daemon.
#[derive(Default)]
pub struct Sinks {
    workers: Vec<Worker>,
    /// What confines their threads.
    sandbox: Sandbox,
}

impl Sinks {
    /// No sinks: no decision is written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the sinks of `--sink`, by default standard output, which `format` is for.
    pub fn open(specs: &[SinkSpec], format: Format, sandbox: &Sandbox) -> Result<Self, SinkError> {
        let mut sinks = Self {
            workers: Vec::new(),
            sandbox: sandbox.clone(),
        };
        if specs.is_empty() {
            sinks.add(&SinkSpec::Stdout, format)?;
        }
        if specs.len() > 1 && specs.contains(&SinkSpec::None) {
            return Err(SinkError::NoneAndOthers);
        }
        for (at, spec) in specs.iter().enumerate() {
            if specs.iter().take(at).any(|before| before == spec) {
                return Err(SinkError::Twice(spec.clone()));
            }
            sinks.add(spec, format)?;
        }
        Ok(sinks)
    }

    /// Opens one more sink.
    pub fn add(&mut self, spec: &SinkSpec, format: Format) -> Result<(), SinkError> {
        let writer: Box<dyn worker::Writer> = match spec {
            SinkSpec::None => return Ok(()),
            SinkSpec::Stdout => Box::new(LineWriter::stdout(format)?),
            SinkSpec::File(path) => Box::new(file::FileSink::open(path, &self.sandbox)?),
            #[cfg(feature = "otlp")]
            SinkSpec::Otlp(url) => Box::new(otlp::Otlp::new(url)),
            SinkSpec::Journald(path) => Box::new(journald::Journald::open(path)?),
        };
        let worker = Worker::start(spec.name(), writer, &self.sandbox)?;
        self.workers.push(worker);
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

    /// Decisions dropped, by sink (`stdout`, `journald`, `file`, `otlp`): it was too slow, or writing failed. An
    /// event that stands for many decisions counts as many.
    #[must_use]
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let mut dropped = BTreeMap::new();
        for worker in &self.workers {
            *dropped.entry(worker.name().to_owned()).or_default() += worker.dropped();
        }
        dropped
    }

    /// Reopens files by their paths (SIGUSR1), after the queued decisions, or before them where the queue is full.
    /// A failure is logged, and the open file is kept.
    pub fn reopen(&mut self) {
        for worker in &self.workers {
            worker.reopen();
        }
    }

    /// Waits until all is written, `timeout` at most: a reader that hangs must not delay the end. The rest is
    /// counted as dropped.
    pub fn close(&mut self, timeout: Duration) {
        let end = Instant::now() + timeout;
        for worker in &mut self.workers {
            worker.close();
        }
        for worker in &mut self.workers {
            worker.wait(end);
        }
    }
}
