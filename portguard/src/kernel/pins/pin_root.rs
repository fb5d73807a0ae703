//! The directory of pins in bpffs, opened so that nothing of another user is followed, used or removed.
//!
//! bpffs has mode 1777 unless it is mounted with another: every user can make entries in it, and cannot replace those of
//! root. What is checked here is root's alone, so that paths below it stay what they are.

use crate::kernel::pin_error::PinError;
use crate::kernel::pins::pin_paths::file_error;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The name of the directory of pins in bpffs.
const ROOT: &str = "portguard";

/// The name of the directory whose lock is that of the pins: never open to another user, so that none can lock it.
const LOCK: &str = "portguard_lock";

/// Write permission of the group and of others.
const WRITABLE: RawMode = 0o022;

/// In a directory with this bit only the owner of an entry renames or removes it.
const STICKY: RawMode = 0o1000;

/// For root alone.
const PRIVATE: Mode = Mode::RWXU;

/// bpffs.
#[derive(Debug)]
pub(super) struct Bpffs {
    fd: OwnedFd,
    /// Where it is mounted.
    path: PathBuf,
}

impl Bpffs {
    /// Opens it and checks that nobody else can replace what root has in it.
    pub(super) fn open(path: &Path) -> Result<Self, PinError> {
        let none = |_| PinError::NoBpffs { path: path.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(none)?;
        let kind = rustix::fs::fstatfs(&fd).map_err(none)?;
        let path = PathBuf::from(path);
        if kind.f_type.cast_unsigned() != BPF_FS_MAGIC {
            return Err(PinError::NoBpffs { path });
        }
        let bpffs = Self { fd, path };
        let mode = bpffs.mode()?;
        if mode & WRITABLE != 0 && mode & STICKY == 0 {
            let path = bpffs.path;
            return Err(PinError::OpenBpffs { path, mode });
        }
        Ok(bpffs)
    }

    /// The path of the directory of pins.
    pub(super) fn root_path(&self) -> PathBuf {
        self.path.join(ROOT)
    }

    /// Its permissions. It belongs to root.
    pub(super) fn mode(&self) -> Result<RawMode, PinError> {
        let path = &self.path;
        let stat = rustix::fs::fstat(&self.fd).map_err(|error| failed("inspect", path, error))?;
        check_owner(path, &stat)?;
        Ok(stat.st_mode & 0o7777)
    }

    /// Whether there is anything by the name of the directory of pins; not where this process may not look.
    pub(super) fn has_root(&self) -> bool {
        rustix::fs::statat(&self.fd, ROOT, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The directory of pins.
    pub(super) fn root(&self) -> Result<OwnedFd, PinError> {
        let path = &self.root_path();
        let root = open_directory(self.fd.as_fd(), ROOT, path)?;
        let stat = rustix::fs::fstat(&root).map_err(|error| failed("inspect", path, error))?;
        check_mode(path, &stat)?;
        for name in names(&root, path)? {
            let path = path.join(name.to_string_lossy().as_ref());
            let stat = rustix::fs::statat(&root, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("inspect", &path, error))?;
            check_entry(&path, &stat)?;
        }
        Ok(root)
    }

    /// The directory of pins, made where it is missing, and closed to all but root.
    pub(super) fn make_root(&self) -> Result<OwnedFd, PinError> {
        let path = &self.root_path();
        make_directory(self.fd.as_fd(), ROOT, path)?;
        let root = self.root()?;
        rustix::fs::fchmod(&root, PRIVATE).map_err(|error| failed("close", path, error))?;
        Ok(root)
    }

    /// The lock; `None` where another process has it.
    pub(super) fn lock(&self) -> Result<Option<OwnedFd>, PinError> {
        let path = self.path.join(LOCK);
        loop {
            make_directory(self.fd.as_fd(), LOCK, &path)?;
            let lock = match open_directory(self.fd.as_fd(), LOCK, &path) {
                Err(PinError::File { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    continue;
                }
                lock => lock?,
            };
            let inspect = |error| failed("inspect", &path, error);
            let stat = rustix::fs::fstat(&lock).map_err(inspect)?;
            if stat.st_mode & 0o077 != 0 {
                return Err(untrusted(&path, has_mode(&stat)));
            }
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                locked => locked.map_err(|error| failed("lock", &path, error))?,
            }
            // Another process may have removed it since it was opened here: this lock then protects nothing.
            let now = rustix::fs::statat(&self.fd, LOCK, AtFlags::SYMLINK_NOFOLLOW);
            if now.is_ok_and(|now| now.st_ino == stat.st_ino) {
                return Ok(Some(lock));
            }
        }
    }

    /// Checks that the lock, where it is there, is root's.
    pub(super) fn check_lock(&self) -> Result<(), PinError> {
        match rustix::fs::statat(&self.fd, LOCK, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => check_entry(&self.path.join(LOCK), &stat),
            Err(_) => Ok(()),
        }
    }

    /// Removes the directory of pins with all that is in it, and the lock, which this process has.
    pub(super) fn remove_all(&self) -> Result<(), PinError> {
        if self.has_root() {
            let path = self.root_path();
            remove_entries(&self.root()?, &path)?;
            remove_directory(self.fd.as_fd(), ROOT, &path)?;
        }
        remove_directory(self.fd.as_fd(), LOCK, &self.path.join(LOCK))
    }
}

/// Removes one directory of the directory of pins, which is at `path`, and all that is in it.
pub(super) fn remove_tree(root: &OwnedFd, name: &CString, path: &Path) -> Result<(), PinError> {
    remove(root.as_fd(), name, path)
}

/// The names in a directory.
pub(super) fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<CString>, PinError> {
    let read = |error| failed("read", path, error);
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(read)? {
        let name = entry.map_err(read)?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes what is in a directory, links before maps: a map without programs is harmless, and programs without pins are
/// unloaded. Symbolic links are removed, not followed.
fn remove_entries(directory: &OwnedFd, path: &Path) -> Result<(), PinError> {
    let mut names = names(directory, path)?;
    names.sort();
    for name in names.iter().rev() {
        remove(directory.as_fd(), name, path)?;
    }
    Ok(())
}

fn remove(parent: BorrowedFd<'_>, name: &CString, path: &Path) -> Result<(), PinError> {
    let path = path.join(name.to_string_lossy().as_ref());
    let remove_failed = |error| failed("remove", &path, error);
    let stat =
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(remove_failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(remove_failed);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory =
        rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(remove_failed)?;
    remove_entries(&directory, &path)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(remove_failed)
}

fn remove_directory(parent: BorrowedFd<'_>, name: &str, path: &Path) -> Result<(), PinError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed.map_err(|error| failed("remove", path, error)),
    }
}

fn make_directory(parent: BorrowedFd<'_>, name: &str, path: &Path) -> Result<(), PinError> {
    match rustix::fs::mkdirat(parent, name, PRIVATE) {
        Err(Errno::EXIST) => Ok(()),
        made => made.map_err(|error| failed("make", path, error)),
    }
}

/// Opens a directory that belongs to root.
fn open_directory(parent: BorrowedFd<'_>, name: &str, path: &Path) -> Result<OwnedFd, PinError> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failed("open", path, error))?;
    check_entry(path, &stat)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|error| failed("open", path, error))?;
    // It may be another one by now.
    let stat = rustix::fs::fstat(&opened).map_err(|error| failed("inspect", path, error))?;
    check_entry(path, &stat)?;
    Ok(opened)
}

/// Checks that this is no symbolic link, and root's.
fn check_entry(path: &Path, stat: &Stat) -> Result<(), PinError> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(untrusted(path, "is a symbolic link".into()));
    }
    check_owner(path, stat)
}

fn check_owner(path: &Path, stat: &Stat) -> Result<(), PinError> {
    let uid = stat.st_uid;
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(untrusted(path, format!("belongs to uid {uid}")))
}

fn check_mode(path: &Path, stat: &Stat) -> Result<(), PinError> {
    if stat.st_mode & WRITABLE == 0 {
        return Ok(());
    }
    Err(untrusted(path, has_mode(stat)))
}

fn has_mode(stat: &Stat) -> String {
    format!("has mode {:04o}", stat.st_mode & 0o7777)
}

fn untrusted(path: &Path, why: String) -> PinError {
    PinError::Untrusted {
        path: path.into(),
        why,
    }
}

fn failed(what: &'static str, path: &Path, error: Errno) -> PinError {
    file_error(what, path)(error.into())
}
