//! The paths of programs, as the eBPF programs have read them at the binds.

use super::path_cache::{BoundedPath, PathCache};
use portguard_policy::escape::escape;

/// Bytes of the longest path in an event.
const MAX_PATH: usize = 1_024;

/// Bytes of paths to cache. The kernel is asked for those that were forgotten.
const MAX_KNOWN: usize = 1 << 20;

/// Paths by the id of [`portguard_common::Event::executable`].
pub struct Executables(PathCache);

impl Default for Executables {
    fn default() -> Self {
        Self(PathCache::new(MAX_KNOWN))
    }
}

impl Executables {
    /// Adds a path. Where the root was not reached, names before the first are missing; `missing` are missing after the
    /// last.
    pub fn learn(&mut self, id: u64, names: &[Vec<u8>], rootless: bool, missing: usize) {
        let mut text = String::new();
        if rootless {
            // No path begins so.
            text.push_str("...");
        }
        for name in names {
            text.push('/');
            text.push_str(&escape(name));
        }
        let mut path = BoundedPath::new(text, MAX_PATH);
        if missing > 0 && !path.cut {
            path = BoundedPath::cut(path.text);
        }
        path.cut |= rootless;
        self.0.insert(id, path);
    }

    /// The path with this id; `None` where it is not known.
    #[must_use]
    pub fn path(&self, id: u64) -> Option<&BoundedPath> {
        self.0.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(names: &[&str], rootless: bool, missing: usize) -> (String, bool) {
        let mut paths = Executables::default();
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        paths.learn(1, &names, rootless, missing);
        let path = paths.path(1).unwrap();
        (path.text.clone(), path.cut)
    }

    #[test]
    fn path_is_marked_where_names_are_missing() {
        let names = ["usr", "sbin", "nginx"];
        assert_eq!(learned(&names, false, 0), ("/usr/sbin/nginx".into(), false));
        assert_eq!(
            learned(&names, true, 0),
            (".../usr/sbin/nginx".into(), true)
        );
        assert_eq!(
            learned(&names, false, 2),
            ("/usr/sbin/nginx/...".into(), true)
        );
        assert_eq!(learned(&["a", "..."], false, 0), ("/a/...".into(), false));
    }

    #[test]
    fn long_path_is_cut_after_a_whole_name() {
        let name = "\u{1b}".repeat(100);
        let (text, cut) = learned(&[&name, &name, &name], false, 0);
        assert!(cut && text.ends_with("1b}/..."), "{text}");
        assert!(text.len() <= MAX_PATH + 4, "{}", text.len());
    }
}
