//! Paths in events: of bounded length, in a cache of bounded size.

use std::collections::HashMap;

/// Bytes of an entry beside its text.
const ENTRY: usize = 64;

/// A path, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundedPath {
    /// From the root down.
    pub text: String,
    /// Whether names are missing; at the end, where the text then ends in `/...`, which could be a name too.
    pub cut: bool,
}

impl BoundedPath {
    /// A path as it is, or cut after the last name with which it has at most `most` bytes.
    pub(super) fn new(mut text: String, most: usize) -> Self {
        let Some(head) = text.as_bytes().get(..=most) else {
            return Self { text, cut: false };
        };
        let end = head.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        text.truncate(end);
        Self::cut(text)
    }

    /// The path of which this is the beginning.
    pub(super) fn cut(text: String) -> Self {
        Self {
            text: text + CUT,
            cut: true,
        }
    }
}

/// What a path ends in whose end is missing.
const CUT: &str = "/...";

/// Paths by id. It is cleared when it is full.
pub(super) struct PathCache {
    known: HashMap<u64, BoundedPath>,
    /// Bytes that `known` takes.
    bytes: usize,
    /// Bytes that it may take.
    most: usize,
}

impl PathCache {
    pub(super) fn new(most: usize) -> Self {
        Self {
            known: HashMap::new(),
            bytes: 0,
            most,
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<&BoundedPath> {
        self.known.get(&id)
    }

    pub(super) fn insert(&mut self, id: u64, path: BoundedPath) {
        let bytes = path.text.len() + ENTRY;
        if self.bytes + bytes > self.most {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        if let Some(earlier) = self.known.insert(id, path) {
            self.bytes -= earlier.text.len() + ENTRY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_is_bounded_by_bytes() {
        const MOST: usize = 1 << 20;
        let mut paths = PathCache::new(MOST);
        for id in 0..10_000 {
            paths.insert(id, BoundedPath::new("n".repeat(3_000), 4_096));
            assert!(paths.bytes <= MOST && paths.known.len() <= MOST / 3_000);
        }
        assert!(paths.get(9_999).is_some());
    }
}
