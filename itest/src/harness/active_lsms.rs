//! The active security modules, found without portguard, whose own result is under test.

use anyhow::Context as _;
use portguard::kernel::{Environment, Hook, load_programs};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::fs::File;
use std::io::Read as _;

/// The active modules in order, whether or not securityfs is mounted.
pub fn active() -> anyhow::Result<Vec<String>> {
    let context = fsopen("securityfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    // The mount is attached nowhere, and ends with its descriptor.
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, read_only)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    File::from(openat(&mount, "lsm", flags, Mode::empty())?).read_to_string(&mut text)?;
    Ok(text.trim().split(',').map(str::to_owned).collect())
}

/// Why this kernel runs no BPF LSM programs: `bpf` is not active, or a load fails.
#[must_use]
pub fn without_bpf() -> Option<String> {
    let names = match active().context("the active LSMs cannot be read") {
        Ok(names) => names,
        Err(error) => return Some(format!("{error:#}")),
    };
    if !names.iter().any(|name| name == "bpf") {
        return Some(format!("no bpf among the active LSMs {}", names.join(",")));
    }
    let error = load_programs(&Environment::probe(), Hook::Lsm, None).err()?;
    let text = error.to_string();
    Some(text.lines().next().unwrap_or_default().to_owned())
}
