//! Spans and moments of time, as people read them.

/// The two largest units: `3 d 4 h`, `12 min 5 s`, `5 s`.
pub(super) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size {
            parts.push(format!("{} {name}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        return "0 s".into();
    }
    parts.join(" ")
}

/// An RFC 3339 moment without the parts of a second.
pub(super) fn moment(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_has_at_most_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_725, "1 h 2 min"),
            (86_400 + 5, "1 d 5 s"),
            (3 * 86_400 + 4 * 3_600 + 59, "3 d 4 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn moment_drops_fraction() {
        assert_eq!(
            moment("2026-01-02T03:04:05.678901234Z"),
            "2026-01-02T03:04:05Z"
        );
        assert_eq!(moment("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05Z");
    }
}
