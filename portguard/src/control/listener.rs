//! The listening socket's file: held by one daemon at a time, and removed at its end.

use super::client::dial;
use super::peer::Peer;
use super::{ControlError, SOCKET};
use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another listener may take to accept before it counts as running all the same.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A file of this daemon: removed on drop, unless another file has replaced it.
struct OwnedPath {
    path: PathBuf,
    identity: (u64, u64),
}

impl OwnedPath {
    fn new(path: PathBuf) -> Self {
        let identity = identity(&path).unwrap_or_default();
        Self { path, identity }
    }
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // One that cannot be removed is stale, and the next daemon replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.symlink_metadata().ok()?;
    Some(numbers(&metadata))
}

fn numbers(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The socket and the lock beside it, until they are dropped, in this order: the lock's file is removed while it
/// is still locked, so never that of another daemon.
pub(crate) struct SocketFile {
    _socket: OwnedPath,
    _lock: OwnedPath,
    _locked: File,
}

impl SocketFile {
    /// Locks the path, which `option` gives, and listens there.
    pub(crate) fn take(
        path: &Path,
        group: Option<u32>,
        option: &'static str,
    ) -> Result<(Self, OwnedFd), ControlError> {
        let too_long = |_| ControlError::TooLong {
            path: path.into(),
            option,
        };
        let address = SocketAddrUnix::new(path).map_err(too_long)?;
        make_directory(path, option)?;
        check_directory(path)?;
        let Some((locked, lock)) = lock(path)? else {
            let between = || ControlError::Between { path: path.into() };
            return Err(occupant(path, option)?.unwrap_or_else(between));
        };
        if let Some(taken) = occupant(path, option)? {
            return Err(taken);
        }
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(system("remove the stale socket", path, source));
            }
            _ => {}
        }
        let failed = |(what, errno): (_, Errno)| system(what, path, errno.into());
        let socket = bind(&address).map_err(failed)?;
        let file = Self {
            _socket: OwnedPath::new(path.into()),
            _lock: lock,
            _locked: locked,
        };
        listen(&socket, path, group).map_err(failed)?;
        Ok((file, socket))
    }
}

fn system(what: &'static str, path: &Path, source: std::io::Error) -> ControlError {
    let path = path.into();
    ControlError::System { what, path, source }
}

/// Makes the directory of the default socket where it is missing, readable by all as the rest of `/run`. Another one is
/// the administrator's: a mistyped path must not become a directory.
fn make_directory(path: &Path, option: &'static str) -> Result<(), ControlError> {
    let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return Ok(());
    };
    if parent.is_dir() {
        return Ok(());
    }
    if path != Path::new(SOCKET) {
        let path = path.into();
        return Err(ControlError::NoDirectory { path, option });
    }
    let failed = |source| system("make the socket's directory", parent, source);
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .map_err(failed)?;
    // The umask may have taken bits away.
    std::fs::set_permissions(parent, Permissions::from_mode(0o755)).map_err(failed)
}

/// Checks that nobody else can replace files in the socket's directory: they are removed, and get their owner and mode, by
/// their path. In a sticky directory such as /tmp root's files stay.
fn check_directory(path: &Path) -> Result<(), ControlError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let metadata = parent.metadata();
    let metadata = metadata.map_err(|source| system("inspect", parent, source))?;
    check_owner(parent, &metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(ControlError::Untrusted {
            path: parent.into(),
            why: format!("has mode {mode:04o}"),
        });
    }
    Ok(())
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), ControlError> {
    let uid = metadata.uid();
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(ControlError::Untrusted {
        path: path.into(),
        why: format!("belongs to uid {uid}"),
    })
}

/// The lock, or `None` where another daemon has it.
fn lock(path: &Path) -> Result<Option<(File, OwnedPath)>, ControlError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    loop {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| system("open the lock", &name, errno.into()))?;
        let file = File::from(file);
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| system("inspect the lock", &name, source))?;
        // Another user's would be locked by that user.
        check_owner(&name, &metadata)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(system("lock", &name, errno.into())),
            Ok(()) => {}
        }
        // A daemon that ended may have removed the file since it was opened here: this lock then protects nothing.
        if Some(numbers(&metadata)) == identity(&name) {
            return Ok(Some((file, OwnedPath::new(name))));
        }
    }
}

/// An error that names the process at the socket; `None` where it is free.
fn occupant(path: &Path, option: &'static str) -> Result<Option<ControlError>, ControlError> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(None);
    };
    let path = path.to_path_buf();
    if !metadata.file_type().is_socket() {
        return Ok(Some(ControlError::NoSocket { path, option }));
    }
    let who = match dial(&path, CONNECT_TIMEOUT) {
        Ok(socket) => Peer::of(&socket).map_or_else(|_| "a process".into(), |peer| peer.name()),
        Err(Errno::CONNREFUSED | Errno::NOENT) => return Ok(None),
        // Its backlog is full, or it is of another kind.
        Err(Errno::AGAIN | Errno::PROTOTYPE) => "a process".into(),
        Err(errno) => return Err(system("find the listener of", &path, errno.into())),
    };
    Ok(Some(ControlError::Taken { path, option, who }))
}

/// For root and the group, and at no time for others.
const MODE: Mode = Mode::from_raw_mode(0o660);

fn bind(address: &SocketAddrUnix) -> Result<OwnedFd, (&'static str, Errno)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| ("open a socket for", errno))?;
    // The file gets the mode of the unbound socket, less the umask: never a wider one.
    rustix::fs::fchmod(&socket, MODE).map_err(|errno| ("set the mode of", errno))?;
    rustix::net::bind(&socket, address).map_err(|errno| ("bind", errno))?;
    Ok(socket)
}

fn listen(socket: &OwnedFd, path: &Path, group: Option<u32>) -> Result<(), (&'static str, Errno)> {
    // A user who may write to the directory could put a link in the socket's place: no link is followed.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| ("open", errno))?;
    let kind = rustix::fs::fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if kind.map_err(|errno| ("look at", errno))? != FileType::Socket {
        return Err(("keep hold of", Errno::NOTSOCK));
    }
    if let Some(group) = group {
        let group = Some(Gid::from_raw(group));
        rustix::fs::chownat(&file, "", None, group, AtFlags::EMPTY_PATH)
            .map_err(|errno| ("give the group to", errno))?;
    }
    // The umask may have taken the group's bits away.
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::chmod(opened, MODE).map_err(|errno| ("set the mode of", errno))?;
    rustix::net::listen(socket, BACKLOG).map_err(|errno| ("listen on", errno))
}
