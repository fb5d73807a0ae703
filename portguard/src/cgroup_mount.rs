//! Where the cgroup v2 tree is mounted, hybrid hosts included.

use std::path::PathBuf;

/// The mount point of the whole v2 tree; `None` where it is not mounted, or `/proc` cannot be read.
#[must_use]
pub fn cgroup_mount() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2" && mount.root == "/")
        .map(|mount| mount.mount_point)
}
