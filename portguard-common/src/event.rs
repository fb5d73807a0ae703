//! The records of the ring buffer and the counters, as the kernel writes them.

use crate::{NAME_BYTES, Reason};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first word of every record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordKind {
    /// An [`Event`].
    Decision = 1,
    /// A [`CgroupRecord`].
    Cgroup = 2,
    /// An [`ExecutableRecord`].
    Executable = 3,
}

/// Bits of [`Event::flags`], the [`Reason`] among them: equal flags mean decisions of the same kind.
pub struct EventFlags;

impl EventFlags {
    /// The verdict was enforced: neither the policy nor the rule is in audit mode.
    pub const ENFORCED: u8 = 1;
    /// The capability check was skipped.
    pub const GRANTED: u8 = 2;
    /// DecisionEvent by a cgroup program (else by an LSM program).
    pub const CGROUP_HOOK: u8 = 4;
    /// The socket is `IPV6_V6ONLY`: an address of IPv6 takes no IPv4.
    pub const V6ONLY: u8 = 8;
    /// The deciding rule is in audit mode, in a policy that is not.
    pub const AUDIT_RULE: u8 = 64;
    /// Where the two bits of the [`Reason`] begin.
    const REASON_SHIFT: u32 = 4;

    /// The bits of a reason.
    #[inline(always)]
    #[must_use]
    pub const fn of_reason(reason: Reason) -> u8 {
        (reason as u8) << Self::REASON_SHIFT
    }

    /// The reason that these flags have.
    #[inline(always)]
    #[must_use]
    pub const fn reason(flags: u8) -> Reason {
        Reason::from_bits(flags >> Self::REASON_SHIFT)
    }
}

/// A decision. Numbers are in host byte order but for the address, which is as on the wire.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// [`RecordKind::Decision`].
    pub kind: u32,
    /// Generation of the policy that decided.
    pub generation: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Id of the caller's cgroup.
    pub cgroup_id: u64,
    /// When the process began, `CLOCK_BOOTTIME`, nanoseconds: with its id it names one process of this boot.
    pub start_time: u64,
    /// Real uid of the caller in the initial user namespace.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Real gid.
    pub gid: u32,
    /// Process id (thread group) in the initial pid namespace.
    pub pid: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// Port.
    pub port: u16,
    /// Number of the deciding rule, or [`crate::NO_RULE`].
    pub rule: u16,
    /// Address: 16 bytes for inet6, the first 4 for inet.
    pub address: [u8; 16],
    /// Name of the thread, which the thread chooses: never trust it, and never print it unescaped.
    pub comm: [u8; 16],
    /// [`crate::Family`].
    pub family: u8,
    /// [`crate::Protocol`].
    pub protocol: u8,
    /// The [`crate::Verdict`] and the errno of a denial, as in a [`crate::RuleWord`].
    pub verdict: u8,
    /// [`EventFlags`].
    pub flags: u8,
    /// Process id of the parent, as `pid`.
    pub ppid: u32,
    /// Id of the [`ExecutableRecord`] that has the path of the program; 0 where the caller has no program.
    pub executable: u64,
    /// Inode number of the program.
    pub exe_inode: u64,
    /// Changes with each exec of the process, and where it is given another program.
    pub exec: u64,
    /// Device of the program's filesystem, as the kernel writes it.
    pub exe_dev: u32,
    /// [`Event::EXE_DELETED`].
    pub exe_flags: u32,
    /// Who made the outermost user namespace around the caller, or [`NO_OWNER`].
    pub userns_owner: u32,
    /// Effective gid.
    pub egid: u32,
}

impl Event {
    /// The program's file has no name any more.
    pub const EXE_DELETED: u32 = 1;
}

/// In place of the owner of a user namespace: the caller is in the initial one. No uid is `(uid_t)-1`.
pub const NO_OWNER: u32 = u32::MAX;

/// What makes decisions equal: those of one window with the same key are reported as one event. All that an event says
/// is here, but for the time and what [`Several`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AggregateKey {
    /// Id of the caller's cgroup.
    pub cgroup_id: u64,
    /// [`Event::address`].
    pub address: [u8; 16],
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Real gid.
    pub gid: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// Generation of the policy.
    pub generation: u32,
    /// [`Event::userns_owner`].
    pub userns_owner: u32,
    /// Effective gid.
    pub egid: u32,
    /// Port.
    pub port: u16,
    /// Number of the deciding rule.
    pub rule: u16,
    /// [`crate::Protocol`].
    pub protocol: u8,
    /// [`Event::verdict`].
    pub verdict: u8,
    /// [`EventFlags`].
    pub flags: u8,
    /// [`AggregateKey::DECISION`] or [`AggregateKey::QUOTA`].
    pub kind: u8,
    /// [`crate::Family`].
    pub family: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

impl AggregateKey {
    /// A decision.
    pub const DECISION: u8 = 0;
    /// The entry that counts the entries of its uid in this window; all other fields are zero.
    pub const QUOTA: u8 = 1;

    /// The key of the entry that counts the entries of `uid`.
    #[inline(always)]
    #[must_use]
    pub const fn quota(uid: u32) -> Self {
        Self {
            cgroup_id: 0,
            address: [0; 16],
            uid,
            euid: 0,
            gid: 0,
            netns: 0,
            generation: 0,
            userns_owner: 0,
            egid: 0,
            port: 0,
            rule: 0,
            protocol: 0,
            verdict: 0,
            flags: 0,
            kind: Self::QUOTA,
            family: 0,
            reserved: [0; 3],
        }
    }
}

/// Words of an [`Event`].
const EVENT_WORDS: usize = size_of::<Event>() / 8;

/// Value of a map of aggregates, as words: the first [`Event`] of its key, then the number of further decisions, then
/// [`Several`]. An entry of [`AggregateKey::QUOTA`] has only two numbers: of entries, and in place of [`Several`] of
/// [`ExecutableRecord`]s.
///
/// Words and not a structure: an inner map must equal its template, and on Linux 6.1 one whose value is a
/// structure by BTF does not equal one without BTF (`timer_off` in `bpf_map_meta_equal`).
pub type AggregateWords = [u64; EVENT_WORDS + 2];

/// Index in [`AggregateWords`] of the number of further decisions.
pub const AGGREGATE_MORE: usize = EVENT_WORDS;

/// Index in [`AggregateWords`] of [`Several`].
pub const AGGREGATE_SEVERAL: usize = EVENT_WORDS + 1;

/// What further decisions did not share with the first: a byte each, so that programs at the same moment can set them
/// without a lock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Several {
    /// 1 where another process made one: its id, parent and start time, and its program.
    pub process: u8,
    /// 1 where the thread had another name.
    pub comm: u8,
    /// 1 where the process had another program.
    pub executable: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Entries of a map of aggregates.
pub const MAX_AGGREGATES: u32 = 8_192;

/// Entries that one uid may have in a window, so that it cannot take those of others.
pub const UID_QUOTA: u64 = 1_024;

/// [`ExecutableRecord`]s that one uid may cause in a window: they are ten times as long as an event.
pub const UID_EXECUTABLES: u64 = 128;

/// The path of a cgroup at its first decision, so that its name is known after it is removed.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CgroupRecord {
    /// [`RecordKind::Cgroup`].
    pub kind: u32,
    /// Levels below the root; only the [`crate::MAX_CGROUP_DEPTH`] nearest to it are recorded.
    pub depth: u32,
    /// Id of the cgroup.
    pub cgroup_id: u64,
    /// Bytes of `text` in use.
    pub len: u64,
    /// NUL-terminated names, from the root down. Those that did not fit are the last ones.
    pub text: [u8; CgroupRecord::ROOM + NAME_BYTES],
}

impl CgroupRecord {
    /// Offset at which the last name may begin.
    pub const ROOM: usize = 3840;
}

/// The most steps from a program up to the root of its mount namespace: each name is one, and each mount.
pub const MAX_EXECUTABLE_STEPS: usize = 24;

/// The path of a program at its first event. Where the program, or a directory above it, gets another name, it is another
/// record with another id.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExecutableRecord {
    /// [`RecordKind::Executable`].
    pub kind: u32,
    /// 1 where the root was not reached in [`MAX_EXECUTABLE_STEPS`]: names are missing before the first.
    pub rootless: u32,
    /// Id: [`Event::executable`].
    pub id: u64,
    /// Names of the path, also those that did not fit.
    pub names: u64,
    /// Bytes of `text` in use.
    pub len: u64,
    /// For the programs only: where the names are.
    pub nodes: [u64; MAX_EXECUTABLE_STEPS],
    /// NUL-terminated names, from the root down. Those that did not fit are the last ones.
    pub text: [u8; ExecutableRecord::ROOM + NAME_BYTES],
}

impl ExecutableRecord {
    /// Offset at which the last name may begin.
    pub const ROOM: usize = 1024;
}

/// What is counted, each a slot of the counter map. Counts are exact: atomic adds on shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Decisions `kernel`.
    Kernel = 0,
    /// Decisions `allow`.
    Allow = 1,
    /// Decisions `deny`.
    Deny = 2,
    /// Decisions whose event was dropped because the ring buffer was full.
    RingFull = 3,
    /// Binds by kernel threads, let pass.
    KernelThread = 4,
    /// Binds left to the kernel's own rule because a table of the policy was missing.
    Fault = 5,
    /// Binds of port 0 seen by an LSM program: the canary's proof that it runs.
    CanaryLsm = 6,
    /// Callers whose cgroup's path or groups could not be read (too deep, or no memory): see
    /// [`crate::decide_bind`]. And calls of `bindx` with too many addresses.
    Unresolved = 7,
    /// Decisions whose event was dropped because their uid had used up its quota of a window.
    UidQuota = 8,
    /// Binds of port 0 seen by a cgroup program: the canary's proof that it runs.
    CanaryCgroup = 9,
}

impl Counter {
    /// Slots of the counter map.
    pub const COUNT: u32 = 10;
}
