//! What leaves the kernel: records in the ring buffer, filled in place, and counters.
//!
//! A verdict is reached before anything is reserved: a full ring changes no verdict, it is counted.

use crate::cgroup::{self, Path};
use crate::judge::Judged;
use crate::kernel::Task;
use crate::maps::{COUNTERS, EVENTS};
use aya_ebpf::helpers::generated::bpf_get_current_comm;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::mem::MaybeUninit;
use portguard_common::{CgroupRecord, Counter, Event, MAX_CGROUP_DEPTH, NAME_BYTES, RecordKind};

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // `AtomicU64::fetch_add` is not there for targets without compare-and-swap, to which rustc counts BPF.
        // SAFETY: a map value, eight bytes and aligned; everyone in the kernel touches it by atomic adds.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, 1) };
    }
}

/// Reports a decision; `describe` writes the family and the address.
#[inline(always)]
pub fn decision(judged: &Judged, describe: impl FnOnce(&mut Event)) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        count(Counter::Lost);
        return;
    };
    zero_words(&mut entry);
    let event = entry.as_mut_ptr();
    // SAFETY: the reservation is ours alone until it is submitted; all its bytes were just zeroed, and
    // zeros are an `Event`.
    let event = unsafe { &mut *event };
    event.kind = RecordKind::Decision as u32;
    event.generation = judged.generation;
    // SAFETY: no arguments.
    event.time = unsafe { bpf_ktime_get_ns() };
    event.cgroup_id = cgroup::current_id();
    event.uid = bpf_get_current_uid_gid() as u32;
    event.euid = Task::current().euid();
    event.gid = (bpf_get_current_uid_gid() >> 32) as u32;
    event.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    event.netns = judged.socket.netns;
    event.port = judged.port;
    event.rule = judged.decision.rule;
    describe(event);
    // Straight into the record: a copy on the stack would be zeroed by a byte loop first.
    // SAFETY: 16 bytes of the record, as the helper is told.
    unsafe { bpf_get_current_comm(event.comm.as_mut_ptr().cast(), 16) };
    event.protocol = judged.socket.protocol as u8;
    event.verdict = judged.decision.verdict as u8;
    event.flags = judged.flags;
    entry.submit(0);
}

/// Reports the path of a cgroup that was walked.
#[inline(always)]
pub fn cgroup(id: u64, path: &Path) {
    let Some(mut entry) = EVENTS.reserve_untyped::<CgroupRecord>(0) else {
        // No decision is lost by this: the daemon still finds the path by the id while the cgroup lives.
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: exclusive memory of the reservation; bytes that are not written are not read.
    let record = unsafe { &mut *record };
    record.kind = RecordKind::Cgroup as u32;
    record.depth = path.depth as u32;
    record.cgroup_id = id;
    let mut end = 0usize;
    for i in 0..MAX_CGROUP_DEPTH {
        let node = path.node(i);
        if node == 0 || end >= CgroupRecord::ROOM {
            break;
        }
        // SAFETY: `end` is below ROOM, and NAME_BYTES more are within `text`.
        let at = unsafe { record.text.as_mut_ptr().add(end) };
        let len = cgroup::name(node, at.cast());
        if len <= 0 || len > NAME_BYTES as i64 {
            break;
        }
        end += len as usize;
    }
    record.len = end as u64;
    entry.submit(0);
}

/// Zeroes an event by whole words: few instructions, no call.
#[inline(always)]
fn zero_words(event: &mut MaybeUninit<Event>) {
    let words = event.as_mut_ptr().cast::<u64>();
    for i in 0..size_of::<Event>() / 8 {
        // SAFETY: within the event, whose alignment is eight.
        let word = unsafe { words.add(i) };
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(word, 0) };
    }
}
