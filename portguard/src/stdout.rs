//! What commands print on standard output. A full disk or a closed pipe is an error, not the panic of `println!`.

use std::fmt;
use std::io::{self, Write as _};
use thiserror::Error;

/// Standard output cannot be written.
#[derive(Debug, Error)]
#[error("cannot write to standard output: {0}")]
pub struct StdoutError(#[from] io::Error);

impl StdoutError {
    /// Whether the reader has ended, as that of `| head` does: no error to its user.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes a line.
pub fn line(line: fmt::Arguments<'_>) -> Result<(), StdoutError> {
    text(&format!("{line}\n"))
}

/// Writes a text as it is.
pub fn text(text: &str) -> Result<(), StdoutError> {
    let mut out = io::stdout().lock();
    // Flushed each time: what a failed write leaves in the buffer would be lost in silence at the end.
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(StdoutError)
}

/// [`line()`] with a format.
macro_rules! out_line {
    ($($format:tt)*) => { $crate::stdout::line(format_args!($($format)*)) };
}

pub(crate) use out_line;
