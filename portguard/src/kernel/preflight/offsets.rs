//! The kernel offsets that the programs use, from the running kernel's BTF.

use crate::kernel::error::{BtfError, KernelError, OffsetError};
use crate::kernel::preflight::btf::Btf;
use object::read::{File, Object as _, ObjectSection as _, SectionKind};
use portguard_common::Field;

/// The offsets that the programs use.
#[derive(Clone, Debug)]
pub struct Offsets {
    /// The programs' globals, and their values.
    globals: Vec<(&'static str, u32)>,
    /// What stands in instructions for an offset.
    fields: Vec<(Field, u16)>,
}

/// Global, structure, member: the same names on Linux 5.10 to 7.2.
const FIELDS: [(&str, &str, &str); 46] = [
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
    ("OFF_SK_FAMILY", "sock", "__sk_common.skc_family"),
    ("OFF_SK_NET", "sock", "__sk_common.skc_net.net"),
    ("OFF_SK_NUM", "sock", "__sk_common.skc_num"),
    ("OFF_NET_INUM", "net", "ns.inum"),
];

/// A bit field, since it has no byte of its own.
const IPV6ONLY: (&str, &str) = ("sock", "__sk_common.skc_ipv6only");

impl Offsets {
    /// The structures and members that [`Self::from_btf`] looks up.
    pub fn members() -> impl Iterator<Item = (&'static str, &'static str)> {
        let globals = FIELDS
            .iter()
            .map(|(_, structure, member)| (*structure, *member));
        let fields = Field::ALL.iter().map(|field| {
            let (structure, member, _) = field.place();
            (structure, member)
        });
        // It is the first member of `struct cgroup`.
        [("cgroup", "self"), IPV6ONLY]
            .into_iter()
            .chain(globals)
            .chain(fields)
    }

    /// Looks up every field.
    pub fn from_btf(btf: &Btf) -> Result<Self, OffsetError> {
        let mut globals = Vec::with_capacity(FIELDS.len());
        for (global, structure, member) in FIELDS {
            globals.push((global, btf.offset(structure, member)?));
        }
        let bit = btf.bit_offset(IPV6ONLY.0, IPV6ONLY.1)?;
        globals.push(("BIT_SK_IPV6ONLY", bit));
        let mut fields = Vec::with_capacity(Field::ALL.len());
        for field in Field::ALL {
            let (structure, member, more) = field.place();
            let offset = btf.offset(structure, member)? + more;
            // An instruction has 15 bits for it.
            let offset = u16::try_from(offset)
                .ok()
                .filter(|offset| *offset < 1 << 15);
            let far = || BtfError::Unknown(format!("{structure}.{member} within 32 KiB"));
            fields.push((field, offset.ok_or_else(far)?));
        }
        if btf.offset("cgroup", "self")? != 0 {
            return Err(BtfError::Unknown("cgroup.self at offset 0".into()).into());
        }
        Ok(Self { globals, fields })
    }

    /// Global name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, u32)> {
        self.globals.iter()
    }

    /// The object with the offsets in its instructions.
    ///
    /// # Errors
    /// Where the object cannot be read.
    pub(in crate::kernel) fn put_into(&self, object: &[u8]) -> Result<Vec<u8>, KernelError> {
        let mut bytes = object.to_vec();
        let file: File<'_> = File::parse(object).map_err(|error| {
            KernelError::Object(Box::new(aya_obj::ParseError::ElfError(error).into()))
        })?;
        for section in file.sections() {
            if section.kind() != SectionKind::Text {
                continue;
            }
            let range = section.file_range().unwrap_or_default();
            let range = range.0 as usize..(range.0 + range.1) as usize;
            let code = bytes.get_mut(range).unwrap_or_default();
            for instruction in code.as_chunks_mut::<8>().0 {
                self.put_into_instruction(instruction);
            }
        }
        Ok(bytes)
    }

    /// `struct bpf_insn`: code, registers, offset (2), immediate (4).
    fn put_into_instruction(&self, instruction: &mut [u8; 8]) {
        let [code, _, low, high, ..] = *instruction;
        if !LOADS.contains(&code) {
            return;
        }
        let number = i16::from_le_bytes([low, high]);
        let known = self
            .fields
            .iter()
            .find(|(field, _)| *field as i16 == number);
        if let Some((_, offset)) = known {
            instruction[2..4].copy_from_slice(&offset.to_le_bytes());
        }
    }
}

/// `BPF_LDX | BPF_MEM` of 4, 2 and 8 bytes.
const LOADS: [u8; 3] = [0x61, 0x69, 0x79];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_is_put_into_loads_of_its_field_only() {
        let offsets = Offsets {
            globals: Vec::new(),
            fields: vec![(Field::CredUid, 0x1234)],
        };
        let number = (Field::CredUid as i16).to_le_bytes();
        let put = |code| {
            let mut instruction = [code, 0x21, number[0], number[1], 0, 0, 0, 0];
            offsets.put_into_instruction(&mut instruction);
            u16::from_le_bytes([instruction[2], instruction[3]])
        };
        for load in LOADS {
            assert_eq!(put(load), 0x1234);
        }
        // A store, and a load of another field.
        assert_eq!(put(0x7b), Field::CredUid as u16);
        let mut other = [0x61, 0x21, 8, 0, 0, 0, 0, 0];
        offsets.put_into_instruction(&mut other);
        assert_eq!(other, [0x61, 0x21, 8, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn offset_into_what_is_no_object_is_an_error() {
        let offsets = Offsets {
            globals: Vec::new(),
            fields: Vec::new(),
        };
        let error = offsets
            .put_into(b"no object")
            .map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.starts_with("cannot load the eBPF object: ")));
    }
}
