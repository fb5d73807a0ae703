//! The owners of a process's user namespaces: who is behind the uids in them.

use crate::kernel::INITIAL_USER_NAMESPACE;
use portguard_policy::compile::Owner;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

/// `NS_GET_PARENT` and `NS_GET_OWNER_UID` of `include/uapi/linux/nsfs.h`.
const GET_PARENT: libc::Ioctl = 0xb702;
const GET_OWNER_UID: libc::Ioctl = 0xb704;

/// The owners of the user namespaces of a process, from its own outwards; none in the initial one. What is above this
/// process's own namespace is not told.
///
/// # Errors
/// Where the process is gone, or of another user.
pub fn owners(pid: u32) -> io::Result<Vec<Owner>> {
    let mut namespace = File::open(format!("/proc/{pid}/ns/user"))?;
    let mut owners = Vec::new();
    while namespace.metadata()?.ino() != INITIAL_USER_NAMESPACE {
        let uid = owner(&namespace)?;
        owners.push(Owner { uid, gid: None });
        namespace = match parent(&namespace) {
            Ok(parent) => parent,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
            Err(error) => return Err(error),
        };
    }
    Ok(owners)
}

fn owner(namespace: &File) -> io::Result<u32> {
    let mut uid: libc::uid_t = 0;
    let fd = namespace.as_raw_fd();
    // SAFETY: `fd` is open; the kernel writes a uid.
    match unsafe { libc::ioctl(fd, GET_OWNER_UID, &raw mut uid) } {
        0 => Ok(uid),
        _ => Err(io::Error::last_os_error()),
    }
}

fn parent(namespace: &File) -> io::Result<File> {
    // SAFETY: `fd` is open; the request takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_PARENT) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_none_in_the_initial_namespace() -> io::Result<()> {
        let own = owners(std::process::id())?;
        let initial = std::fs::metadata("/proc/self/ns/user")?.ino() == INITIAL_USER_NAMESPACE;
        assert_eq!(own.is_empty(), initial);
        assert!(owners(u32::MAX).is_err());
        Ok(())
    }
}
