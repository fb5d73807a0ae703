//! Fields of the kernel's structures that the programs load by typed pointers.
//!
//! The programs' instructions have a number of this list where the offset of the field belongs, and the loader puts the
//! offset of the running kernel there. A number is none that a real offset of these structures could be taken for.

/// A field, by the number that stands for its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
#[allow(missing_docs, reason = "each is the field of its name")]
pub enum Field {
    TaskTgid = 31_240,
    TaskComm0,
    TaskComm4,
    TaskComm8,
    TaskComm12,
    TaskCred,
    TaskFlags,
    TaskLeader,
    TaskParent,
    TaskStart,
    CredUid,
    CredEuid,
    CredGid,
    CredEgid,
    CredUserNs,
    UserNsLevel,
    SocketSk,
    SkFamily,
    SkType,
    SkProtocol,
    SkNet,
    NetInum,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 22] = [
        Self::TaskTgid,
        Self::TaskComm0,
        Self::TaskComm4,
        Self::TaskComm8,
        Self::TaskComm12,
        Self::TaskCred,
        Self::TaskFlags,
        Self::TaskLeader,
        Self::TaskParent,
        Self::TaskStart,
        Self::CredUid,
        Self::CredEuid,
        Self::CredGid,
        Self::CredEgid,
        Self::CredUserNs,
        Self::UserNsLevel,
        Self::SocketSk,
        Self::SkFamily,
        Self::SkType,
        Self::SkProtocol,
        Self::SkNet,
        Self::NetInum,
    ];

    /// The structure, the member as in C, and the bytes behind its beginning.
    #[must_use]
    pub const fn place(self) -> (&'static str, &'static str, u32) {
        match self {
            Self::TaskTgid => ("task_struct", "tgid", 0),
            Self::TaskComm0 => ("task_struct", "comm", 0),
            Self::TaskComm4 => ("task_struct", "comm", 4),
            Self::TaskComm8 => ("task_struct", "comm", 8),
            Self::TaskComm12 => ("task_struct", "comm", 12),
            Self::TaskCred => ("task_struct", "cred", 0),
            Self::TaskFlags => ("task_struct", "flags", 0),
            Self::TaskLeader => ("task_struct", "group_leader", 0),
            Self::TaskParent => ("task_struct", "real_parent", 0),
            Self::TaskStart => ("task_struct", "start_boottime", 0),
            Self::CredUid => ("cred", "uid", 0),
            Self::CredEuid => ("cred", "euid", 0),
            Self::CredGid => ("cred", "gid", 0),
            Self::CredEgid => ("cred", "egid", 0),
            Self::CredUserNs => ("cred", "user_ns", 0),
            Self::UserNsLevel => ("user_namespace", "level", 0),
            Self::SocketSk => ("socket", "sk", 0),
            Self::SkFamily => ("sock", "__sk_common.skc_family", 0),
            Self::SkType => ("sock", "sk_type", 0),
            Self::SkProtocol => ("sock", "sk_protocol", 0),
            Self::SkNet => ("sock", "__sk_common.skc_net.net", 0),
            Self::NetInum => ("net", "ns.inum", 0),
        }
    }
}
