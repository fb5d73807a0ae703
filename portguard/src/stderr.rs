//! The daemon's log lines on standard error. A closed pipe or terminal must not end enforcement, as the panic of
//! `eprintln!` would.

use std::fmt;
use std::io::Write as _;

/// Writes a line; a failure is ignored.
pub fn line(line: fmt::Arguments<'_>) {
    text(&format!("{line}\n"));
}

/// Writes a text as it is; a failure is ignored.
pub fn text(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// [`line()`] with a format.
macro_rules! log_line {
    ($($format:tt)*) => { $crate::stderr::line(format_args!($($format)*)) };
}

pub(crate) use log_line;
