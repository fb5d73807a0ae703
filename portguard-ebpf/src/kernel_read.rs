//! Reads of the kernel's own memory, and the offsets of its fields.
//!
//! Rust has no CO-RE, so the loader takes every offset from the running kernel's BTF and sets it in a
//! read-only global, which the verifier knows as a constant.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_task, generated};
use core::mem::MaybeUninit;
use portguard_common::{NAME_BYTES, NO_OWNER};

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident;)*) => { $($(#[$doc])* #[unsafe(no_mangle)]
        pub static $name: Global<u32> = Global::new(0);)* };
}

constants! {
    /// 1 where cgroup bind programs may return 3 (Linux 5.12).
    GRANTS;
    /// 1 where cgroup bind programs may call `bpf_set_retval` (Linux 5.18).
    SET_RETVAL;
    /// 1 where the cgroup programs decide and report every bind, as no LSM program runs.
    CGROUP_DECIDES;
    /// 1 where all programs may call `bpf_get_current_task_btf` (cgroup programs from Linux 6.1 on).
    TYPED_TASK;
    /// Inode number of the initial network namespace.
    HOST_NETNS;
    OFF_TASK_CRED;
    OFF_TASK_FLAGS;
    OFF_TASK_CGROUPS;
    OFF_TASK_LEADER;
    OFF_TASK_PARENT;
    OFF_TASK_TGID;
    OFF_TASK_START;
    OFF_TASK_MM;
    OFF_TASK_EXEC;
    OFF_MM_EXE;
    OFF_FILE_DENTRY;
    OFF_FILE_MNT;
    OFF_FILE_INODE;
    OFF_INODE_INO;
    OFF_INODE_SB;
    OFF_SB_DEV;
    OFF_DENTRY_PARENT;
    OFF_DENTRY_NAME;
    /// Hash and length of the name.
    OFF_DENTRY_HASH_LEN;
    /// Counts its changes; odd during one.
    OFF_DENTRY_SEQ;
    /// Zero where the directory does not have it any more.
    OFF_DENTRY_HASHED;
    /// Of the `struct vfsmount` in a `struct mount`.
    OFF_MOUNT_MNT;
    OFF_MOUNT_ROOT;
    OFF_MOUNT_PARENT;
    OFF_MOUNT_MOUNTPOINT;
    OFF_CRED_EUID;
    OFF_CRED_GID;
    OFF_CRED_EGID;
    OFF_CRED_GROUP_INFO;
    OFF_CRED_USER_NS;
    OFF_USERNS_LEVEL;
    OFF_USERNS_PARENT;
    OFF_USERNS_OWNER;
    OFF_USERNS_GROUP;
    OFF_GROUPS_COUNT;
    OFF_GROUPS_GID;
    OFF_CSET_DFL_CGRP;
    OFF_CGROUP_KN;
    OFF_CGROUP_LEVEL;
    OFF_CGROUP_PARENT;
    OFF_KN_NAME;
    OFF_KN_ID;
    OFF_SK_FAMILY;
    OFF_SK_NET;
    /// The port that the socket is bound to, host byte order.
    OFF_SK_NUM;
    /// Bit, counted from the beginning of the socket.
    BIT_SK_IPV6ONLY;
    OFF_NET_INUM;
}

/// User namespaces that can be inside each other, the initial one not counted: `create_user_ns` makes none in one whose
/// level is above 32.
pub const MAX_USER_NAMESPACES: u32 = 33;

/// An address in the kernel. Reading one that faults yields zero, never a fault.
#[derive(Clone, Copy)]
pub struct Address(pub u64);

impl Address {
    /// Where a pointer of the verifier's points to.
    ///
    /// Such a pointer takes no arithmetic, or none as a number. Read back from the stack by the probe helper it
    /// is one.
    #[inline(always)]
    pub fn of<T>(pointer: *const T) -> Self {
        Self(Self(&raw const pointer as u64).read_at(0))
    }

    /// Reads the field of type `T` at `offset`; zero where that faults.
    ///
    /// No branch on the outcome, since each would double what the verifier explores: the helper fills
    /// the destination with zeros when it fails (`bpf_probe_read_kernel_common`).
    #[inline(always)]
    pub fn read<T: Plain>(self, offset: &Global<u32>) -> T {
        self.read_at(u64::from(offset.load()))
    }

    /// Reads the `T` at a constant offset.
    #[inline(always)]
    pub fn read_at<T: Plain>(self, offset: u64) -> T {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the destination is `size_of::<T>()` bytes of our stack; the source may be any address,
        // the helper checks it.
        unsafe {
            generated::bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                (self.0 + offset) as *const _,
            )
        };
        // SAFETY: all bytes are initialised (zeroed above) and any bytes are a `T: Plain`.
        unsafe { value.assume_init() }
    }

    /// Follows the pointer at `offset`.
    #[inline(always)]
    pub fn follow(self, offset: &Global<u32>) -> Self {
        Self(self.read(offset))
    }
}

/// Types of which any bytes are a value.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}

/// The running thread: the caller of bind(2), its io_uring worker or its SQPOLL thread.
#[derive(Clone, Copy)]
pub struct Task(Address);

impl Task {
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: no arguments; the task is the running one and cannot go away below us.
        Self(Address(unsafe { bpf_get_current_task() }))
    }

    /// Effective uid as an id of the initial user namespace. `cred`, not `real_cred`: an io_uring
    /// personality acts with what it was given.
    #[inline(always)]
    pub fn euid(self) -> u32 {
        self.cred().read(&OFF_CRED_EUID)
    }

    /// Effective gid, as [`Self::euid`].
    #[inline(always)]
    pub fn egid(self) -> u32 {
        self.cred().read(&OFF_CRED_EGID)
    }

    /// Its `struct cred`, all of whose ids are of the initial user namespace.
    #[inline(always)]
    pub fn cred(self) -> Address {
        self.0.follow(&OFF_TASK_CRED)
    }

    /// The user namespace in which it acts.
    #[inline(always)]
    pub fn user_namespace(self) -> UserNamespace {
        UserNamespace(self.cred().follow(&OFF_CRED_USER_NS))
    }

    /// Who made the outermost user namespace around it, or [`NO_OWNER`].
    #[inline(always)]
    pub fn userns_owner(self) -> u32 {
        let mut namespace = self.user_namespace();
        let mut owner = NO_OWNER;
        for _ in 0..MAX_USER_NAMESPACES {
            if namespace.level() == 0 {
                break;
            }
            owner = namespace.owner();
            namespace = namespace.parent();
        }
        owner
    }

    /// When its process began, `CLOCK_BOOTTIME`, nanoseconds.
    #[inline(always)]
    pub fn start_time(self) -> u64 {
        self.0.follow(&OFF_TASK_LEADER).read(&OFF_TASK_START)
    }

    /// The process id of its parent, in the initial pid namespace.
    #[inline(always)]
    pub fn parent(self) -> u32 {
        self.0.follow(&OFF_TASK_PARENT).read(&OFF_TASK_TGID)
    }

    /// The program of its process, `struct file`; zero where it has none.
    #[inline(always)]
    pub fn exe_file(self) -> Address {
        self.0.follow(&OFF_TASK_MM).follow(&OFF_MM_EXE)
    }

    /// Changes with each exec, and where the process is given another program.
    ///
    /// A freed file's address may be used again, but not with the same count of execs: that is in the 16 bits in which all
    /// addresses of the kernel are alike.
    #[inline(always)]
    pub fn exec(self) -> u64 {
        self.exe_file().0 ^ self.0.read::<u64>(&OFF_TASK_EXEC) << 48
    }

    #[inline(always)]
    pub fn flags(self) -> u32 {
        self.0.read(&OFF_TASK_FLAGS)
    }

    /// Its cgroup in the v2 hierarchy, `struct cgroup`.
    #[inline(always)]
    pub fn cgroup(self) -> Address {
        self.0.follow(&OFF_TASK_CGROUPS).follow(&OFF_CSET_DFL_CGRP)
    }
}

/// A `struct user_namespace`.
#[derive(Clone, Copy)]
pub struct UserNamespace(pub Address);

impl UserNamespace {
    /// How many namespaces are above it: 0 of the initial one.
    #[inline(always)]
    pub fn level(self) -> u32 {
        self.0.read(&OFF_USERNS_LEVEL)
    }

    #[inline(always)]
    pub fn parent(self) -> Self {
        Self(self.0.follow(&OFF_USERNS_PARENT))
    }

    /// The effective uid of the task that made it, an id of the initial namespace.
    #[inline(always)]
    pub fn owner(self) -> u32 {
        self.0.read(&OFF_USERNS_OWNER)
    }

    /// The effective gid of the task that made it, an id of the initial namespace.
    #[inline(always)]
    pub fn group(self) -> u32 {
        self.0.read(&OFF_USERNS_GROUP)
    }
}

/// The id of the caller's cgroup.
#[inline(always)]
pub fn current_cgroup_id() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Reads the name of a `kernfs_node`, at most 255 bytes (`NAME_MAX`, so whole); returns its bytes with
/// the closing NUL.
#[inline(always)]
pub fn kernfs_name(node: u64, into: *mut [u8; NAME_BYTES]) -> i64 {
    read_name(Address(node).read(&OFF_KN_NAME), into)
}

/// Reads the name at `text`, as [`kernfs_name`].
#[inline(always)]
pub fn read_name(text: u64, into: *mut [u8; NAME_BYTES]) -> i64 {
    // SAFETY: the destination has NAME_BYTES bytes; the helper checks the source.
    unsafe {
        generated::bpf_probe_read_kernel_str(into.cast(), NAME_BYTES as u32, text as *const _)
    }
}
