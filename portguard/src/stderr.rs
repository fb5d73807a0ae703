//! What the daemon says on standard error. Nobody may read it: a closed pipe or terminal must not end
//! enforcement, as `eprintln!`'s panic would.

use std::fmt;
use std::io::Write as _;

/// Writes a line; what cannot be written is dropped.
pub fn line(line: fmt::Arguments<'_>) {
    text(&format!("{line}\n"));
}

/// Writes a text as it is; what cannot be written is dropped.
pub fn text(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// [`line`] with a format.
macro_rules! log_line {
    ($($format:tt)*) => { $crate::stderr::line(format_args!($($format)*)) };
}

pub(crate) use log_line;
