//! What the daemon says on standard error. Nobody may read it: a closed pipe or terminal must not end
//! enforcement, as `eprintln!`'s panic would.

use std::fmt;
use std::io::Write as _;

/// Writes a line; what cannot be written is dropped.
pub fn line(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// [`line`] with a format.
macro_rules! say {
    ($($format:tt)*) => { $crate::say::line(format_args!($($format)*)) };
}

pub(crate) use say;
