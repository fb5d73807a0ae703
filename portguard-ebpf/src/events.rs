//! Events: records in the ring buffer and aggregates of equal decisions, filled in place.
//!
//! The verdict is reached before anything is reserved, so a full ring changes no verdict. It is counted.

use crate::counters::{count, increment};
use crate::kernel_read::{Task, current_cgroup_id, kernfs_name};
use crate::maps::{AGGREGATES, Aggregates, EVENTS, Path};
use crate::socket::Socket;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_get_current_comm;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns};
use core::mem::MaybeUninit;
use portguard_common::{
    AGGREGATE_MORE, AggregateKey, AggregateWords, CgroupRecord, Counter, Decision, Event,
    EventFlags, MAX_CGROUP_DEPTH, NAME_BYTES, RecordKind, UID_QUOTA, Verdict,
};

/// An evaluated bind: the decision, and what an event says of it.
pub struct Evaluated {
    pub port: u16,
    pub socket: Socket,
    pub decision: Decision,
    pub generation: u32,
    /// [`EventFlags`].
    pub flags: u8,
}

impl Evaluated {
    #[inline(always)]
    pub fn enforced(&self, verdict: Verdict) -> bool {
        self.flags & EventFlags::ENFORCED != 0 && self.decision.verdict as u8 == verdict as u8
    }
}

/// Reports a decision; `describe` writes the family and the address.
///
/// The first of equal decisions in a window goes to the ring at once; the others are added to its entry, which
/// the loader reads at the window's end. Where the ring is full the first is added there too, so that nothing
/// is lost while there is an entry.
#[inline(always)]
pub fn decision(evaluated: &Evaluated, describe: impl Fn(&mut Event)) {
    let Some(aggregates) = AGGREGATES.get(0) else {
        return alone(evaluated, describe);
    };
    let key = key(evaluated);
    if add(aggregates, &key) {
        return;
    }
    if !takes_quota(aggregates, key.uid) {
        count(Counter::UidQuota);
        return;
    }
    if aggregates.insert(&key, &EMPTY, BPF_NOEXIST.into()).is_err() {
        // Another CPU was faster, or the window's map is full.
        if !add(aggregates, &key) {
            alone(evaluated, describe);
        }
        return;
    }
    let Some(entry) = aggregates.get_ptr_mut(&key) else {
        // Entries of a map in use are never removed.
        return;
    };
    let event = entry.cast::<Event>();
    // SAFETY: the entry begins with the words of an `Event`. Other CPUs find the entry by now, but only add to
    // the word after it; the loader reads it once no program uses the map any more.
    fill(unsafe { &mut *event }, evaluated, describe);
    // SAFETY: filled above.
    let event = unsafe { &*event };
    if EVENTS.output_untyped::<Event>(event, 0).is_err() {
        add_one(entry);
    }
}

/// A decision's entry before its event is filled in.
static EMPTY: AggregateWords = [0; AGGREGATE_MORE + 1];

/// The entry that counts the first of a uid.
static FIRST_OF_UID: AggregateWords = {
    let mut words = EMPTY;
    words[AGGREGATE_MORE] = 1;
    words
};

/// The key that equal decisions share.
#[inline(always)]
fn key(evaluated: &Evaluated) -> AggregateKey {
    AggregateKey {
        cgroup_id: current_cgroup_id(),
        uid: bpf_get_current_uid_gid() as u32,
        generation: evaluated.generation,
        port: evaluated.port,
        rule: evaluated.decision.rule,
        protocol: evaluated.socket.protocol as u8,
        verdict: evaluated.decision.verdict as u8,
        flags: evaluated.flags,
        kind: AggregateKey::DECISION,
    }
}

/// Adds one to the entry of `key`; `false` where there is none.
#[inline(always)]
fn add(aggregates: &Aggregates, key: &AggregateKey) -> bool {
    match aggregates.get_ptr_mut(key) {
        Some(entry) => {
            add_one(entry);
            true
        }
        None => false,
    }
}

#[inline(always)]
fn add_one(entry: *mut AggregateWords) {
    // SAFETY: a word of the entry.
    let more = unsafe { entry.cast::<u64>().add(AGGREGATE_MORE) };
    // SAFETY: as above, aligned, which programs only touch by atomic adds.
    unsafe { increment(more) };
}

/// Takes one of the entries that `uid` may have in this window; `false` where its quota is used up.
///
/// CPUs at the same moment may take one too many each.
#[inline(always)]
fn takes_quota(aggregates: &Aggregates, uid: u32) -> bool {
    let key = AggregateKey::quota(uid);
    let Some(entry) = aggregates.get_ptr_mut(&key) else {
        // A full map has no room for this entry either; then the room in the ring is the limit.
        let _ = aggregates.insert(&key, &FIRST_OF_UID, BPF_NOEXIST.into());
        return true;
    };
    // SAFETY: a word of the entry.
    let taken = unsafe { entry.cast::<u64>().add(AGGREGATE_MORE) };
    // SAFETY: as above: eight bytes and aligned, one load.
    if unsafe { core::ptr::read_volatile(taken) } >= UID_QUOTA {
        return false;
    }
    add_one(entry);
    true
}

/// Reports a decision by an event of its own.
#[inline(always)]
fn alone(evaluated: &Evaluated, describe: impl Fn(&mut Event)) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        count(Counter::RingFull);
        return;
    };
    zero_words(&mut entry);
    let event = entry.as_mut_ptr();
    // SAFETY: exclusive memory of the reservation until it is submitted; all its bytes were just zeroed,
    // and zeros are an `Event`.
    fill(unsafe { &mut *event }, evaluated, describe);
    entry.submit(0);
}

/// Fills in an event whose bytes are zero.
#[inline(always)]
fn fill(event: &mut Event, evaluated: &Evaluated, describe: impl Fn(&mut Event)) {
    event.kind = RecordKind::Decision as u32;
    event.generation = evaluated.generation;
    // SAFETY: no arguments.
    event.time = unsafe { bpf_ktime_get_ns() };
    event.cgroup_id = current_cgroup_id();
    event.uid = bpf_get_current_uid_gid() as u32;
    event.euid = Task::current().euid();
    event.gid = (bpf_get_current_uid_gid() >> 32) as u32;
    event.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    event.netns = evaluated.socket.netns;
    event.port = evaluated.port;
    event.rule = evaluated.decision.rule;
    describe(event);
    // Straight into the record: a copy on the stack would be zeroed by a byte loop first.
    // SAFETY: the destination has the 16 bytes that the helper gets as its size.
    unsafe { bpf_get_current_comm(event.comm.as_mut_ptr().cast(), 16) };
    event.protocol = evaluated.socket.protocol as u8;
    event.verdict = evaluated.decision.verdict as u8;
    event.flags = evaluated.flags;
}

/// Reports the path of a cgroup.
#[inline(always)]
pub fn cgroup(id: u64, path: &Path) {
    let Some(mut entry) = EVENTS.reserve_untyped::<CgroupRecord>(0) else {
        // No decision is lost by this: the daemon finds the path by the id while the cgroup exists.
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
        let len = kernfs_name(node, at.cast());
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
