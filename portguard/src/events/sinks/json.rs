//! A decision as a line of JSON.

use crate::events::DecisionEvent;

/// The line, its newline included.
pub(super) fn line(decided: &DecisionEvent) -> String {
    match serde_json::to_string(decided) {
        Ok(mut line) => {
            line.push('\n');
            line
        }
        // Plain strings and numbers always serialise.
        Err(_) => String::new(),
    }
}
