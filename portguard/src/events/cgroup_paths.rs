//! Cgroup ids -> paths, for events. No decision depends on it.

use super::path_cache::{BoundedPath, PathCache};
use portguard_policy::escape::escape;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes of the longest path in an event. A user can make cgroups of any depth, and has each line of theirs written.
const MAX_PATH: usize = 4_096;

/// Bytes of paths to cache: a machine has some hundreds of cgroups. The cache is cleared when it is full.
const MAX_KNOWN: usize = 2 << 20;

/// `FILEID_KERNFS` of `include/linux/exportfs.h` (Linux 5.10 to 7.2): the handle is the 64-bit id.
const FILEID_KERNFS: i32 = 0xfe;

/// Resolves ids. A v2 directory cannot be renamed and no id is used twice in a boot, so a known path stays true.
pub struct CgroupPaths {
    root: PathBuf,
    known: PathCache,
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
            known: PathCache::new(MAX_KNOWN),
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
            let whole = self.open_by_id(id).map(bounded);
            let path = whole.unwrap_or_else(|| BoundedPath::cut(text));
            return self.known.insert(id, path);
        }
        if text.is_empty() {
            text.push('/');
        }
        self.known.insert(id, bounded(text));
    }

    /// The path of a cgroup, or `None` where it is gone and was never walked.
    pub fn path(&mut self, id: u64) -> Option<BoundedPath> {
        if let Some(path) = self.known.get(id) {
            return Some(path.clone());
        }
        let path = bounded(self.open_by_id(id)?);
        self.known.insert(id, path.clone());
        Some(path)
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

fn bounded(text: String) -> BoundedPath {
    BoundedPath::new(text, MAX_PATH)
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
}
