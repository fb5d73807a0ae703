//! Where the cgroup v2 tree is mounted, hybrid hosts and containers included.

use rustix::fs::{FsWord, statfs};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The inode number of the root of the host's tree: kernfs numbers its files from 1, and only the root is made first.
const ROOT_INODE: u64 = 1;
/// Of `include/uapi/linux/magic.h`.
const CGROUP2_SUPER_MAGIC: FsWord = 0x6367_7270;

/// What is mounted of the host's cgroup v2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupTree {
    /// Its root, here.
    Root(PathBuf),
    /// Only a part of it, here: the tree of a container with a cgroup namespace of its own.
    Part(PathBuf),
    /// Nothing, or `/proc` cannot be read.
    NotMounted,
}

/// Finds the host's tree.
///
/// The root of a mount as mountinfo prints it is relative to the reader's cgroup namespace: `/` is the host's root on
/// a host and a container's cgroup in the container, where the host's root is `/..` or `/../..`. Only the inode
/// tells.
#[must_use]
pub fn cgroup_tree() -> CgroupTree {
    let mounts = procfs::process::Process::myself().and_then(|own| own.mountinfo());
    let mounts = mounts.map_or_else(|_| Vec::new(), |mounts| mounts.0);
    let trees = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .map(|mount| mount.mount_point);
    choose(trees, root_of_a_tree)
}

/// The mount point of the whole v2 tree; `None` where it is not mounted.
#[must_use]
pub fn cgroup_mount() -> Option<PathBuf> {
    match cgroup_tree() {
        CgroupTree::Root(path) => Some(path),
        CgroupTree::Part(_) | CgroupTree::NotMounted => None,
    }
}

/// `is_root` is `None` where something else is mounted over the tree.
fn choose(
    mounts: impl Iterator<Item = PathBuf>,
    is_root: impl Fn(&Path) -> Option<bool>,
) -> CgroupTree {
    let mut part = CgroupTree::NotMounted;
    for path in mounts {
        match is_root(&path) {
            Some(true) => return CgroupTree::Root(path),
            Some(false) => part = CgroupTree::Part(path),
            None => {}
        }
    }
    part
}

/// Whether a directory of a cgroup v2 tree is the host's root; `None` where it is of another file system.
fn root_of_a_tree(path: &Path) -> Option<bool> {
    let is_cgroup = statfs(path).ok()?.f_type == CGROUP2_SUPER_MAGIC;
    let inode = std::fs::metadata(path).ok()?.ino();
    is_cgroup.then_some(inode == ROOT_INODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(mounts: &[&str]) -> CgroupTree {
        let mounts = mounts.iter().map(PathBuf::from);
        choose(mounts, |path| match path.to_str() {
            Some("/hidden") => None,
            path => Some(path.is_some_and(|path| path.ends_with("/host"))),
        })
    }

    #[test]
    fn cgroup_tree_is_the_hosts_root_wherever_it_is_mounted() {
        let root = CgroupTree::Root("/mnt/host".into());
        assert_eq!(chosen(&["/hidden", "/sys/fs/cgroup", "/mnt/host"]), root);
    }

    #[test]
    fn cgroup_tree_of_a_container_is_a_part() {
        let part = CgroupTree::Part("/sys/fs/cgroup".into());
        assert_eq!(chosen(&["/sys/fs/cgroup", "/hidden"]), part);
        assert_eq!(chosen(&["/hidden"]), CgroupTree::NotMounted);
    }
}
