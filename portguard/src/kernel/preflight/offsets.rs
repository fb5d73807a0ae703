//! The kernel offsets that the programs use, from the running kernel's BTF.

use crate::kernel::error::{BtfError, OffsetError};
use crate::kernel::preflight::btf::Btf;

/// The programs' globals for offsets, and their values.
#[derive(Clone, Debug)]
pub struct Offsets(Vec<(&'static str, u32)>);

/// Global, structure, member: the same names on Linux 5.10 to 7.2.
const FIELDS: [(&str, &str, &str); 49] = [
    ("OFF_TASK_CRED", "task_struct", "cred"),
    ("OFF_TASK_FLAGS", "task_struct", "flags"),
    ("OFF_TASK_CGROUPS", "task_struct", "cgroups"),
    ("OFF_TASK_LEADER", "task_struct", "group_leader"),
    ("OFF_TASK_PARENT", "task_struct", "real_parent"),
    ("OFF_TASK_TGID", "task_struct", "tgid"),
    ("OFF_TASK_START", "task_struct", "start_boottime"),
    ("OFF_TASK_MM", "task_struct", "mm"),
    ("OFF_TASK_EXEC", "task_struct", "self_exec_id"),
    ("OFF_MM_EXE", "mm_struct", "exe_file"),
    ("OFF_FILE_DENTRY", "file", "f_path.dentry"),
    ("OFF_FILE_MNT", "file", "f_path.mnt"),
    ("OFF_FILE_INODE", "file", "f_inode"),
    ("OFF_INODE_INO", "inode", "i_ino"),
    ("OFF_INODE_SB", "inode", "i_sb"),
    ("OFF_SB_DEV", "super_block", "s_dev"),
    ("OFF_DENTRY_PARENT", "dentry", "d_parent"),
    ("OFF_DENTRY_NAME", "dentry", "d_name.name"),
    ("OFF_DENTRY_HASH_LEN", "dentry", "d_name.hash_len"),
    ("OFF_DENTRY_SEQ", "dentry", "d_seq"),
    ("OFF_DENTRY_HASHED", "dentry", "d_hash.pprev"),
    ("OFF_MOUNT_MNT", "mount", "mnt"),
    ("OFF_MOUNT_ROOT", "mount", "mnt.mnt_root"),
    ("OFF_MOUNT_PARENT", "mount", "mnt_parent"),
    ("OFF_MOUNT_MOUNTPOINT", "mount", "mnt_mountpoint"),
    ("OFF_CRED_EUID", "cred", "euid"),
    ("OFF_CRED_GID", "cred", "gid"),
    ("OFF_CRED_EGID", "cred", "egid"),
    ("OFF_CRED_GROUP_INFO", "cred", "group_info"),
    ("OFF_CRED_USER_NS", "cred", "user_ns"),
    ("OFF_USERNS_LEVEL", "user_namespace", "level"),
    ("OFF_USERNS_PARENT", "user_namespace", "parent"),
    ("OFF_USERNS_OWNER", "user_namespace", "owner"),
    ("OFF_USERNS_GROUP", "user_namespace", "group"),
    ("OFF_GROUPS_COUNT", "group_info", "ngroups"),
    ("OFF_GROUPS_GID", "group_info", "gid"),
    ("OFF_CSET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("OFF_CGROUP_KN", "cgroup", "kn"),
    ("OFF_CGROUP_LEVEL", "cgroup", "level"),
    // A css's parent is the parent cgroup itself: `self` is the first member of `cgroup`.
    ("OFF_CGROUP_PARENT", "cgroup", "self.parent"),
    ("OFF_KN_NAME", "kernfs_node", "name"),
    ("OFF_KN_ID", "kernfs_node", "id"),
    ("OFF_SOCKET_SK", "socket", "sk"),
    ("OFF_SK_FAMILY", "sock", "__sk_common.skc_family"),
    ("OFF_SK_TYPE", "sock", "sk_type"),
    ("OFF_SK_PROTOCOL", "sock", "sk_protocol"),
    ("OFF_SK_NET", "sock", "__sk_common.skc_net.net"),
    ("OFF_SK_NUM", "sock", "__sk_common.skc_num"),
    ("OFF_NET_INUM", "net", "ns.inum"),
];

impl Offsets {
    /// Looks up every field.
    pub fn from_btf(btf: &Btf) -> Result<Self, OffsetError> {
        let mut offsets = Vec::with_capacity(FIELDS.len());
        for (global, structure, member) in FIELDS {
            offsets.push((global, btf.offset(structure, member)?));
        }
        let bit = btf.bit_offset("sock", "__sk_common.skc_ipv6only")?;
        offsets.push(("BIT_SK_IPV6ONLY", bit));
        if btf.offset("cgroup", "self")? != 0 {
            return Err(BtfError::Unknown("cgroup.self at offset 0".into()).into());
        }
        Ok(Self(offsets))
    }

    /// Global name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, u32)> {
        self.0.iter()
    }
}
