//! Cgroup ids -> paths, for events. No decision depends on it.

use portguard_policy::escape::escape;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes of the longest path in an event. A user can make cgroups of any depth, and has each line of theirs written.
const MAX_PATH: usize = 4_096;

/// Bytes of paths to cache: a machine has some hundreds of cgroups. The cache is cleared when it is full.
const MAX_KNOWN: usize = 2 << 20;

/// Bytes of an entry beside its text.
const ENTRY: usize = 64;

/// `FILEID_KERNFS` of `include/linux/exportfs.h` (Linux 5.10 to 7.2): the handle is the 64-bit id.
const FILEID_KERNFS: i32 = 0xfe;

/// Resolves ids. A v2 directory cannot be renamed and no id is used twice in a boot, so a known path stays true.
pub struct CgroupPaths {
    root: PathBuf,
    known: HashMap<u64, CgroupPath>,
    /// Bytes that `known` takes.
    bytes: usize,
}

/// The path of a cgroup, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath {
    /// From the root of the tree.
    pub text: String,
    /// Whether levels below are missing; then the text ends in `/...`, which could be a name too.
    pub cut: bool,
}

impl CgroupPath {
    /// A path as it is, or cut after the last name that fits.
    fn bounded(text: String) -> Self {
        let (text, cut) = bounded(text, MAX_PATH);
        Self { text, cut }
    }

    /// The path of which this is the beginning.
    fn cut(text: String) -> Self {
        Self {
            text: text + CUT,
            cut: true,
        }
    }
}

/// What a path ends in whose end is missing.
const CUT: &str = "/...";

/// A path as it is, or cut after the last name with which it has at most `most` bytes, and whether it was.
pub(super) fn bounded(mut text: String, most: usize) -> (String, bool) {
    let Some(head) = text.as_bytes().get(..=most) else {
        return (text, false);
    };
    let end = head.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    text.truncate(end);
    (text + CUT, true)
}

/// `struct file_handle` with room for a kernfs id.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    id: u64,
}

impl CgroupPaths {
    /// For the tree mounted at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.into(),
            known: HashMap::new(),
            bytes: 0,
        }
    }

    /// Caches a path that the eBPF programs have walked.
    pub fn learn(&mut self, id: u64, names: &[Vec<u8>], missing: usize) {
        let mut text = String::new();
        for name in names {
            text.push('/');
            text.push_str(&escape(name));
        }
        if missing > 0 {
            // Deeper than is recorded; the whole path is available while the cgroup exists.
            let whole = self.open_by_id(id).map(CgroupPath::bounded);
            let path = whole.unwrap_or_else(|| CgroupPath::cut(text));
            return self.insert(id, path);
        }
        if text.is_empty() {
            text.push('/');
        }
        self.insert(id, CgroupPath::bounded(text));
    }

    /// The path of a cgroup, or `None` where it is gone and was never walked.
    pub fn path(&mut self, id: u64) -> Option<CgroupPath> {
        if let Some(path) = self.known.get(&id) {
            return Some(path.clone());
        }
        let path = CgroupPath::bounded(self.open_by_id(id)?);
        self.insert(id, path.clone());
        Some(path)
    }

    fn insert(&mut self, id: u64, path: CgroupPath) {
        let bytes = path.text.len() + ENTRY;
        if self.bytes + bytes > MAX_KNOWN {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        if let Some(earlier) = self.known.insert(id, path) {
            self.bytes -= earlier.text.len() + ENTRY;
        }
    }

    fn open_by_id(&self, id: u64) -> Option<String> {
        let root = std::fs::File::open(&self.root).ok()?;
        let mut handle = FileHandle {
            bytes: 8,
            kind: FILEID_KERNFS,
            id,
        };
        // SAFETY: the handle has the kernel's layout and its own length, and is only read.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                root.as_raw_fd(),
                &raw mut handle,
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the descriptor was just opened and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let full = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        let below = full.strip_prefix(&self.root).ok()?;
        Some(format!("/{}", escape(below.as_os_str().as_encoded_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_path_is_marked_and_a_name_of_dots_is_not() {
        let mut paths = CgroupPaths::new(Path::new("/nonexistent"));
        paths.learn(1, &[b"a".to_vec()], 2);
        paths.learn(2, &[b"a".to_vec(), b"...".to_vec()], 0);
        let [cut, whole] = [1, 2].map(|id| paths.path(id).unwrap());
        assert_eq!((cut.text.as_str(), cut.cut), ("/a/...", true));
        assert_eq!((whole.text.as_str(), whole.cut), ("/a/...", false));
    }

    #[test]
    fn long_path_is_cut_after_a_whole_name() {
        let name = [b'n'; 99];
        let names = |count| vec![name.to_vec(); count];
        let mut paths = CgroupPaths::new(Path::new("/nonexistent"));
        paths.learn(1, &names(40), 0);
        paths.learn(2, &names(41), 0);
        let [whole, cut] = [1, 2].map(|id| paths.path(id).unwrap());
        assert_eq!((whole.text.len(), whole.cut), (4_000, false));
        assert_eq!((cut.text.len(), cut.cut), (4_000 + 4, true));
        assert!(cut.text.ends_with("nnn/..."));
    }

    #[test]
    fn cache_is_bounded_by_bytes() {
        let mut paths = CgroupPaths::new(Path::new("/nonexistent"));
        let name = vec![vec![b'n'; 3_000]];
        for id in 0..10_000 {
            paths.learn(id, &name, 0);
            assert!(paths.bytes <= MAX_KNOWN && paths.known.len() <= MAX_KNOWN / 3_000);
        }
        assert!(paths.path(9_999).is_some());
    }
}
