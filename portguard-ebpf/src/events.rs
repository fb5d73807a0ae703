//! Events: records in the ring buffer and aggregates of equal decisions, filled in place.
//!
//! The verdict is reached before anything is reserved, so a full ring changes no verdict. It is counted.

use crate::counters::{count, increment};
use crate::executable::Executable;
use crate::kernel_read::{Task, kernfs_name};
use crate::maps::{AGGREGATES, Aggregates, EVENTS, Path};
use crate::socket::{Bound, Socket};
use crate::typed::{
    current_gids, current_parent, current_start_time, current_uids, has_owners, write_current_comm,
};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use portguard_common::{
    AGGREGATE_MORE, AGGREGATE_SEVERAL, AggregateKey, AggregateWords, CgroupRecord, Counter, Event,
    Family, MAX_CGROUP_DEPTH, NAME_BYTES, NO_OWNER, RecordKind, RuleWord, Several, UID_EXECUTABLES,
    UID_QUOTA,
};

/// What an event says of a decision.
pub struct Reported {
    pub port: u16,
    pub socket: Socket,
    pub word: RuleWord,
    pub rule: u16,
    pub generation: u32,
    /// The id of the cgroup that the decision is about.
    pub cgroup_id: u64,
    /// [`portguard_common::EventFlags`].
    pub flags: u8,
}

/// Reports a decision.
#[inline(always)]
pub fn decision(reported: &Reported, bound: &Bound) {
    let decided = u64::from(reported.word.outcome().0)
        | u64::from(reported.flags | bound.flags) << 8
        | u64::from(reported.rule) << 16
        | u64::from(reported.generation) << 32;
    let bind = u64::from(reported.port)
        | (reported.socket.protocol as u64) << 16
        | bound.inet6 << 24
        | u64::from(reported.socket.netns) << 32;
    let [high, low] = bound.words;
    portguard_report(decided, bind, high, low, reported.cgroup_id);
}

/// Global to the verifier, which checks it once and not at each call; and its stack is not that of the decision.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_report(decided: u64, bind: u64, high: u64, low: u64, cgroup: u64) -> u64 {
    // SAFETY: two words and 16 bytes, of which any are a value.
    let address = unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>([high, low]) };
    let (uid, euid) = current_uids();
    let (gid, egid) = current_gids();
    report(&AggregateKey {
        cgroup_id: cgroup,
        address,
        uid: uid as u32,
        euid: euid as u32,
        gid,
        netns: (bind >> 32) as u32,
        generation: (decided >> 32) as u32,
        userns_owner: if has_owners() {
            Task::current().userns_owner()
        } else {
            NO_OWNER
        },
        egid,
        port: bind as u16,
        rule: (decided >> 16) as u16,
        protocol: (bind >> 16) as u8,
        verdict: decided as u8,
        flags: (decided >> 8) as u8,
        kind: AggregateKey::DECISION,
        family: Family::Inet as u8 + (bind >> 24 & 1) as u8 * INET6_AFTER_INET,
        reserved: [0; 3],
    });
    0
}

const INET6_AFTER_INET: u8 = Family::Inet6 as u8 - Family::Inet as u8;

/// The first of equal decisions in a window goes to the ring at once; the others are added to its entry, which
/// the loader reads at the window's end. Where the ring is full the first is added there too, so that nothing
/// is lost while there is an entry.
#[inline(always)]
fn report(key: &AggregateKey) {
    let Some(aggregates) = AGGREGATES.get(0) else {
        return alone(key, &program(None));
    };
    if add(aggregates, key) {
        return;
    }
    if !takes_quota(key.uid) {
        count(Counter::UidQuota);
        return;
    }
    let program = program(Some(key.uid));
    if aggregates.insert(key, &EMPTY, BPF_NOEXIST.into()).is_err() {
        // Another CPU was faster, or the window's map is full.
        if !add(aggregates, key) {
            alone(key, &program);
        }
        return;
    }
    let Some(entry) = aggregates.get_ptr_mut(key) else {
        // Entries of a map in use are never removed.
        return;
    };
    let event = entry.cast::<Event>();
    // SAFETY: the entry begins with the words of an `Event`. Other CPUs find the entry by now, but only read them and
    // write the words after it; the loader reads it once no program uses the map any more.
    fill(unsafe { &mut *event }, key, &program);
    // SAFETY: filled above.
    let event = unsafe { &*event };
    if EVENTS.output_untyped::<Event>(event, 0).is_err() {
        increment_more(entry);
    }
}

/// A decision's entry before its event is filled in.
static EMPTY: AggregateWords = [0; AGGREGATE_SEVERAL + 1];

/// The entry that counts the first of a uid.
static FIRST_OF_UID: AggregateWords = {
    let mut words = EMPTY;
    words[AGGREGATE_MORE] = 1;
    words
};

/// Adds one to the entry of `key`; `false` where there is none.
#[inline(always)]
fn add(aggregates: &Aggregates, key: &AggregateKey) -> bool {
    let Some(entry) = aggregates.get_ptr_mut(key) else {
        return false;
    };
    mark_several(entry);
    increment_more(entry);
    true
}

/// Marks what this decision does not share with the first of its entry.
///
/// While another CPU fills the first in, it is read as what it is not yet, and counts as different: the event says less
/// then, but nothing wrong.
#[inline(always)]
fn mark_several(entry: *mut AggregateWords) {
    let first = entry.cast::<Event>();
    // SAFETY: a word of the entry.
    let several = unsafe { entry.cast::<u64>().add(AGGREGATE_SEVERAL) }.cast::<Several>();
    // SAFETY: within the entry, which begins with the words of an `Event`; any bytes are a number.
    let pid = unsafe { core::ptr::read_volatile(&raw const (*first).pid) };
    // SAFETY: as above.
    let start_time = unsafe { core::ptr::read_volatile(&raw const (*first).start_time) };
    // An id is used again within a second where there are few.
    if pid != current_process() || start_time != current_start_time() {
        // SAFETY: a byte of the entry, to which only ones are written.
        unsafe { core::ptr::write_volatile(&raw mut (*several).process, 1) };
    }
    // SAFETY: as above.
    if unsafe { core::ptr::read_volatile(&raw const (*first).exec) } != Task::current().exec() {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*several).executable, 1) };
    }
    let mut comm = [0u64; 2];
    // SAFETY: our own.
    unsafe { write_current_comm(&raw mut comm) };
    // SAFETY: within the entry, at a multiple of eight.
    let known = unsafe { core::ptr::read_volatile((&raw const (*first).comm).cast::<[u64; 2]>()) };
    if (comm[0] ^ known[0]) | (comm[1] ^ known[1]) != 0 {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*several).comm, 1) };
    }
}

#[inline(always)]
fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn increment_more(entry: *mut AggregateWords) {
    // SAFETY: a word of the entry.
    let more = unsafe { entry.cast::<u64>().add(AGGREGATE_MORE) };
    // SAFETY: as above, aligned, which programs only touch by atomic adds.
    unsafe { increment(more) };
}

/// Takes one of the entries that `uid` may have in this window; `false` where its quota is used up.
///
/// CPUs at the same moment may take one too many each.
#[inline(always)]
fn takes_quota(uid: u32) -> bool {
    portguard_take_quota(u64::from(uid)) != 0
}

/// A function of its own for its stack: a key is 80 bytes, and all functions that call each other have 512.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_take_quota(uid: u64) -> u64 {
    let Some(aggregates) = AGGREGATES.get(0) else {
        return 1;
    };
    let key = AggregateKey::quota(uid as u32);
    let Some(entry) = aggregates.get_ptr_mut(&key) else {
        // A full map has no room for this entry either; then the room in the ring is the limit.
        let _ = aggregates.insert(&key, &FIRST_OF_UID, BPF_NOEXIST.into());
        return 1;
    };
    // SAFETY: a word of the entry.
    let taken = unsafe { entry.cast::<u64>().add(AGGREGATE_MORE) };
    // SAFETY: as above: eight bytes and aligned, one load.
    if unsafe { core::ptr::read_volatile(taken) } >= UID_QUOTA {
        return 0;
    }
    increment_more(entry);
    1
}

/// The caller's program, for an event that is sent now, after its path where the daemon does not know it. `quota` is the
/// uid by which paths are limited.
#[inline(always)]
fn program(quota: Option<u32>) -> Executable {
    let program = Executable::current();
    if program.is_new() && quota.is_none_or(|uid| portguard_take_path(u64::from(uid)) != 0) {
        program.send_path();
    }
    program
}

/// Takes one of the paths that `uid` may have sent in this window, as [`takes_quota`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_take_path(uid: u64) -> u64 {
    let Some(aggregates) = AGGREGATES.get(0) else {
        return 1;
    };
    let Some(entry) = aggregates.get_ptr_mut(&AggregateKey::quota(uid as u32)) else {
        return 0;
    };
    // SAFETY: a word of the entry.
    let taken = unsafe { entry.cast::<u64>().add(AGGREGATE_SEVERAL) };
    // SAFETY: as above: eight bytes and aligned, one load.
    if unsafe { core::ptr::read_volatile(taken) } >= UID_EXECUTABLES {
        return 0;
    }
    // SAFETY: as above, aligned, which programs only touch by atomic adds.
    unsafe { increment(taken) };
    1
}

/// Reports a decision by an event of its own.
#[inline(always)]
fn alone(key: &AggregateKey, program: &Executable) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        count(Counter::RingFull);
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: exclusive memory of the reservation until it is submitted; `fill` writes all its bytes, and any are an
    // `Event`.
    fill(unsafe { &mut *event }, key, program);
    entry.submit(0);
}

/// Fills in an event, all of it.
#[inline(always)]
fn fill(event: &mut Event, key: &AggregateKey, program: &Executable) {
    event.kind = RecordKind::Decision as u32;
    event.generation = key.generation;
    // SAFETY: no arguments.
    event.time = unsafe { bpf_ktime_get_ns() };
    event.cgroup_id = key.cgroup_id;
    event.start_time = current_start_time();
    event.uid = key.uid;
    event.euid = key.euid;
    event.gid = key.gid;
    event.pid = current_process();
    event.netns = key.netns;
    event.port = key.port;
    event.rule = key.rule;
    event.address = key.address;
    // SAFETY: 16 bytes of the event at a multiple of eight.
    unsafe { write_current_comm((&raw mut event.comm).cast()) };
    event.family = key.family;
    event.protocol = key.protocol;
    event.verdict = key.verdict;
    event.flags = key.flags;
    event.ppid = current_parent();
    event.executable = program.id;
    event.exe_inode = program.inode;
    event.exec = program.exec;
    event.exe_dev = program.dev;
    event.exe_flags = program.flags;
    event.userns_owner = key.userns_owner;
    event.egid = key.egid;
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
    // From the root down: what is cut are the levels below, and no name stands where the first belongs.
    for i in 1..=MAX_CGROUP_DEPTH {
        let node = path.node((path.count as usize).wrapping_sub(i));
        if i as u64 > path.count || end >= CgroupRecord::ROOM {
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
