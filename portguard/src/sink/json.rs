//! A decision as a line of JSON.

use crate::event::Decided;

/// The line, its newline included.
pub(super) fn line(decided: &Decided) -> String {
    match serde_json::to_string(decided) {
        Ok(mut line) => {
            line.push('\n');
            line
        }
        // Plain strings and numbers always serialise.
        Err(_) => String::new(),
    }
}
