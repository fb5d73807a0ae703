//! The rules that the caller's groups leave.
//!
//! Real, effective and every supplementary gid count, of which a task may have 65,536 (`NGROUPS_MAX`).
//! The functions without a mangled name are global to the verifier, which checks each of them once and not
//! once for each call. Loops of this length would be impossible otherwise.

use crate::counters::count;
use crate::kernel_read::{
    Address, OFF_CRED_EGID, OFF_CRED_GID, OFF_CRED_GROUP_INFO, OFF_GROUPS_COUNT, OFF_GROUPS_GID,
    Task,
};
use crate::maps::{GROUPS, GROUPS_OF};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use portguard_common::{Counter, GroupKey, VECTOR_WORDS, VectorWords};

/// Gids that are read by one call.
const CHUNK: u32 = 256;
/// Chunks of `NGROUPS_MAX` (`include/uapi/linux/limits.h`).
const CHUNKS: u32 = 65_536 / CHUNK;

/// The rules that name no group, and those that name one of the caller's; `None`, counted, where the kernel
/// has no memory for the thread's entry in [`GROUPS_OF`]. [`release`] gives that memory back.
#[inline(always)]
pub fn collect(generation: u64, groupless: &VectorWords) -> Option<&'static VectorWords> {
    collect_by(groupless, || {
        portguard_groups(generation);
    })
}

/// The same, of groups that `add` adds.
#[inline(always)]
pub fn collect_by(groupless: &VectorWords, add: impl FnOnce()) -> Option<&'static VectorWords> {
    let thread = bpf_get_current_pid_tgid();
    let _ = GROUPS_OF.insert(&thread, groupless, 0);
    add();
    let Some(rules) = GROUPS_OF.get_ptr(&thread) else {
        count(Counter::Unresolved);
        return None;
    };
    // SAFETY: a map value under this thread's key: nothing else writes it until it is released, after its last
    // use.
    Some(unsafe { &*rules })
}

/// Removes what [`collect`] made.
#[inline(always)]
pub fn release() {
    let _ = GROUPS_OF.remove(&bpf_get_current_pid_tgid());
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_groups(generation: u64) -> u64 {
    let cred = Task::current().cred();
    portguard_group(generation, u64::from(cred.read::<u32>(&OFF_CRED_GID)));
    portguard_group(generation, u64::from(cred.read::<u32>(&OFF_CRED_EGID)));
    let info = cred.follow(&OFF_CRED_GROUP_INFO);
    let count: u32 = info.read(&OFF_GROUPS_COUNT);
    for chunk in 0..CHUNKS {
        if chunk * CHUNK >= count {
            break;
        }
        portguard_group_chunk(
            generation,
            info.0,
            u64::from(chunk * CHUNK),
            u64::from(count),
        );
    }
    0
}

/// Adds the groups from number `first` on, at most [`CHUNK`], of `count`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portguard_group_chunk(generation: u64, info: u64, first: u64, count: u64) -> u64 {
    for i in 0..u64::from(CHUNK) {
        if first + i >= count {
            break;
        }
        let gids = Address(info + u64::from(OFF_GROUPS_GID.load()));
        portguard_group(generation, u64::from(gids.read_at::<u32>((first + i) * 4)));
    }
    0
}

/// Adds one group.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_group(generation: u64, gid: u64) -> u64 {
    let key = Key::new(GroupKey::BITS, GroupKey::new(generation, gid as u32));
    let Some(named) = GROUPS.get(&key) else {
        return 0;
    };
    let Some(rules) = GROUPS_OF.get_ptr_mut(&bpf_get_current_pid_tgid()) else {
        return 0;
    };
    let (from, into) = (named.as_ptr(), rules.cast::<u64>());
    for i in 0..VECTOR_WORDS {
        // SAFETY: both arrays have that many words; the entry of `GROUPS_OF` is this thread's own.
        let (from, into) = unsafe { (from.add(i), into.add(i)) };
        // SAFETY: as above. Volatile, so that no call to a copying function comes of it.
        let word = unsafe { core::ptr::read_volatile(from) };
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(into, *into | word) };
    }
    1
}
