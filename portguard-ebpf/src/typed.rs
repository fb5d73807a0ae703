//! Loads by pointers whose type the verifier knows: plain loads, which the JIT guards against faults.
//!
//! The offset in the instruction is the number of a [`Field`], which the loader replaces by the offset of the running
//! kernel. An offset in a global would cost four instructions more.

use crate::kernel_read::{TYPED_TASK, Task};
use aya_ebpf::helpers::{bpf_get_current_uid_gid, generated};
use portguard_common::Field;

/// `PF_KTHREAD` of `include/linux/sched.h` (5.10 to 7.2).
const PF_KTHREAD: u32 = 0x0020_0000;

/// Loads a field: `load!(u32, pointer, Field::TaskTgid)`.
macro_rules! load {
    (@ $width:literal, $base:expr, $field:expr) => {{
        let value: u64;
        let base: *const u8 = $base;
        // SAFETY: `base` is typed by BTF and not null, and the field is one of its type; the verifier checks the access.
        unsafe {
            core::arch::asm!(
                concat!("{value} = *(", $width, " *)({base} + {field})"),
                value = out(reg) value,
                base = in(reg) base,
                field = const $field as i16,
                options(pure, readonly, nostack),
            );
        }
        value
    }};
    (u16, $base:expr, $field:expr) => {{
        let value = load!(@ "u16", $base, $field);
        // SAFETY: the load zeroes the other bits. LLVM would else bound one copy, and use another as an index.
        unsafe { core::hint::assert_unchecked(value <= 0xffff) };
        value as u16
    }};
    (u32, $base:expr, $field:expr) => {{
        let value = load!(@ "u32", $base, $field);
        // SAFETY: as above.
        unsafe { core::hint::assert_unchecked(value <= 0xffff_ffff) };
        value as u32
    }};
    (u64, $base:expr, $field:expr) => {
        load!(@ "u64", $base, $field)
    };
    (pointer, $base:expr, $field:expr) => {
        load!(@ "u64", $base, $field) as *const u8
    };
}
pub(crate) use load;

/// The running task, by a typed pointer: only where [`TYPED_TASK`] is set.
#[derive(Clone, Copy)]
struct TypedTask(*const u8);

impl TypedTask {
    #[inline(always)]
    fn current() -> Self {
        // SAFETY: no arguments; the task is the running one.
        Self(unsafe { generated::bpf_get_current_task_btf() } as *const u8)
    }

    #[inline(always)]
    fn cred(self) -> *const u8 {
        load!(pointer, self.0, Field::TaskCred)
    }
}

/// Real and effective uid of the caller, ids of the initial user namespace.
///
/// As words: LLVM does not know that a load of 32 bits zeroes the others.
#[inline(always)]
pub fn current_uids() -> (u64, u64) {
    if TYPED_TASK.load() != 0 {
        let cred = TypedTask::current().cred();
        (
            load!(@ "u32", cred, Field::CredUid),
            load!(@ "u32", cred, Field::CredEuid),
        )
    } else {
        (
            u64::from(bpf_get_current_uid_gid() as u32),
            u64::from(Task::current().euid()),
        )
    }
}

/// Real and effective gid of the caller.
#[inline(always)]
pub fn current_gids() -> (u32, u32) {
    if TYPED_TASK.load() != 0 {
        let cred = TypedTask::current().cred();
        (
            load!(u32, cred, Field::CredGid),
            load!(u32, cred, Field::CredEgid),
        )
    } else {
        (
            (bpf_get_current_uid_gid() >> 32) as u32,
            Task::current().egid(),
        )
    }
}

/// When the caller's process began: see [`Task::start_time`].
#[inline(always)]
pub fn current_start_time() -> u64 {
    if TYPED_TASK.load() != 0 {
        let leader = load!(pointer, TypedTask::current().0, Field::TaskLeader);
        load!(u64, leader, Field::TaskStart)
    } else {
        Task::current().start_time()
    }
}

/// The process id of its parent: see [`Task::parent`].
#[inline(always)]
pub fn current_parent() -> u32 {
    if TYPED_TASK.load() != 0 {
        let parent = load!(pointer, TypedTask::current().0, Field::TaskParent);
        load!(u32, parent, Field::TaskTgid)
    } else {
        Task::current().parent()
    }
}

/// Writes the name of the running thread.
///
/// # Safety
/// `into` is 16 bytes, aligned, that nothing else uses.
#[inline(always)]
pub unsafe fn write_current_comm(into: *mut [u64; 2]) {
    if TYPED_TASK.load() != 0 {
        let task = TypedTask::current().0;
        let words = [
            u64::from(load!(u32, task, Field::TaskComm0))
                | u64::from(load!(u32, task, Field::TaskComm4)) << 32,
            u64::from(load!(u32, task, Field::TaskComm8))
                | u64::from(load!(u32, task, Field::TaskComm12)) << 32,
        ];
        // SAFETY: by the caller's promise.
        unsafe { into.write(words) };
    } else {
        // SAFETY: by the caller's promise; the helper gets 16 as the size.
        unsafe { generated::bpf_get_current_comm(into.cast(), 16) };
    }
}

/// Whether the caller is in another user namespace than the initial one.
#[inline(always)]
pub fn has_owners() -> bool {
    let level = if TYPED_TASK.load() != 0 {
        let namespace = load!(pointer, TypedTask::current().cred(), Field::CredUserNs);
        load!(u32, namespace, Field::UserNsLevel)
    } else {
        Task::current().user_namespace().level()
    };
    level != 0
}

/// Whether the caller is a kernel thread.
#[inline(always)]
pub fn is_kernel_thread() -> bool {
    let flags = if TYPED_TASK.load() != 0 {
        load!(u32, TypedTask::current().0, Field::TaskFlags)
    } else {
        Task::current().flags()
    };
    flags & PF_KTHREAD != 0
}
