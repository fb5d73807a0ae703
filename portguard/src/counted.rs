//! Numbers of things, in a message.

/// `1 rule`, `2 rules`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
