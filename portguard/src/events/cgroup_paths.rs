//! Cgroup ids -> paths, for events. No decision depends on it.

use portguard_policy::escape::escape;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Paths to cache: a machine has some hundreds of cgroups. The cache is cleared when it is full.
const MAX_KNOWN: usize = 16_384;

/// `FILEID_KERNFS` of `include/linux/exportfs.h` (Linux 5.10 to 7.2): the handle is the 64-bit id.
const FILEID_KERNFS: i32 = 0xfe;

/// Resolves ids. A v2 directory cannot be renamed and no id is used twice in a boot, so a known path stays true.
pub struct CgroupPaths {
    root: PathBuf,
    known: HashMap<u64, String>,
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
        }
    }

    /// Caches a path that the eBPF programs have walked.
    pub fn learn(&mut self, id: u64, names: &[Vec<u8>], missing: usize) {
        let mut path = String::new();
        for name in names {
            path.push('/');
            path.push_str(&escape(name));
        }
        if missing > 0 {
            // Deeper than is recorded; the whole path is available while the cgroup exists.
            path = self.open_by_id(id).unwrap_or_else(|| path + "/...");
        } else if path.is_empty() {
            path.push('/');
        }
        self.insert(id, path);
    }

    /// The path of a cgroup, escaped, or `None` where it is gone and was never walked.
    pub fn path(&mut self, id: u64) -> Option<String> {
        if let Some(path) = self.known.get(&id) {
            return Some(path.clone());
        }
        let path = self.open_by_id(id)?;
        self.insert(id, path.clone());
        Some(path)
    }

    fn insert(&mut self, id: u64, path: String) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(id, path);
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
