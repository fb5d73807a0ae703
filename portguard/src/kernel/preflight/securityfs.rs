//! Files of securityfs, mounted or not.
//!
//! Where it is not mounted, a mount of our own is used that is attached nowhere: the host is left as
//! it is, and the mount goes with its descriptor.

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::io::Read;

/// Reads a file below `/sys/kernel/security`.
pub(super) fn read(name: &str) -> std::io::Result<String> {
    match std::fs::read_to_string(format!("/sys/kernel/security/{name}")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => read_unmounted(name),
        other => other,
    }
}

fn read_unmounted(name: &str) -> std::io::Result<String> {
    let context = fsopen("securityfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?;
    let file = rustix::fs::openat(
        &mount,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text)?;
    Ok(text)
}
