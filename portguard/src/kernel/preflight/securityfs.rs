//! Files of securityfs, whether it is mounted or not.
//!
//! Where it is not, they are read through a detached mount: the host does not change, and the mount goes away with
//! its descriptor.

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
