//! The rules that the caller's groups leave, in an entry that has room for what its owners add.
//!
//! Every supplementary gid counts, of which a task may have 65,536 (`NGROUPS_MAX`), and the real gid where it is the
//! effective one too. Where the two differ, as in a program with the setgid bit, a `deny` rule takes either of them and
//! the others both.
//!
//! The functions without a mangled name are global to the verifier, which checks each of them once and not
//! once for each call. Loops of this length would be impossible otherwise.

use crate::counters::count;
use crate::identity::owners::{self, portguard_owners};
use crate::kernel_read::{
    Address, OFF_CRED_EGID, OFF_CRED_GID, OFF_CRED_GROUP_INFO, OFF_GROUPS_COUNT, OFF_GROUPS_GID,
    Task,
};
use crate::maps::{GROUPS_OF, own_group_rules, rules_of_gid};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use portguard_common::{Counter, FixedGroups, GroupRules, Header, HeaderFlags, VECTOR_WORDS};

/// `NGROUPS_MAX` (`include/uapi/linux/limits.h`).
const MAX_GROUPS: u32 = 65_536;
/// Gids that are read by one call of [`portguard_group_chunk`].
const CHUNK: u32 = 32;
/// Gids that are read by one call of [`portguard_group_block`]. Three short loops, since the verifier walks each round of
/// each: 128 in place of 65,536.
const BLOCK: u32 = 1_024;

/// The rules that the caller's groups leave, and those that its owners add where it `has_owners`. Where a rule names a
/// group, and where there are owners, [`release`] gives back the memory that this takes; where there is none, that is
/// counted. `None` where the loader has not put the policy's entries into [`GROUPS_OF`], or a table is missing.
#[inline(always)]
pub fn collect(header: &Header<'_>, slot: u32, has_owners: bool) -> Option<&'static GroupRules> {
    let policy = owners::policy(slot, header.generation());
    let groups = || {
        portguard_groups(policy);
    };
    collect_by(header, has_owners, groups, || portguard_owners(policy))
}

/// The same, of groups and owners that these add.
#[inline(always)]
pub fn collect_by(
    header: &Header<'_>,
    has_owners: bool,
    add_groups: impl FnOnce(),
    add_owners: impl FnOnce() -> u64,
) -> Option<&'static GroupRules> {
    let groupless = rules_of(FixedGroups::groupless(header.generation()).key());
    if !header.has(HeaderFlags::GROUP_RULES) && !has_owners {
        return groupless;
    }
    let thread = bpf_get_current_pid_tgid();
    if GROUPS_OF.insert(&thread, groupless?, 0).is_err() {
        count(Counter::Unresolved);
        return without_memory(header, has_owners);
    }
    if header.has(HeaderFlags::GROUP_RULES) {
        add_groups();
    }
    if has_owners {
        match add_owners() {
            owners::ALL => {}
            owners::TOO_MANY => {
                count(Counter::Unresolved);
                return without_memory(header, has_owners);
            }
            _ => return None,
        }
    }
    rules_of(thread)
}

/// The rules of a caller whose groups or owners cannot be collected.
#[inline(always)]
pub fn without_memory(header: &Header<'_>, has_owners: bool) -> Option<&'static GroupRules> {
    rules_of(FixedGroups::without_memory(header.generation(), has_owners).key())
}

/// The rules under a key of [`GROUPS_OF`].
#[inline(always)]
fn rules_of(key: u64) -> Option<&'static GroupRules> {
    let rules = GROUPS_OF.get_ptr(&key)?;
    // SAFETY: a map value. Under this thread's key nothing else writes it until it is released, after its last use;
    // the loader never changes the others.
    Some(unsafe { &*rules })
}

/// Removes what [`collect`] made.
#[inline(always)]
pub fn release() {
    let _ = GROUPS_OF.remove(&bpf_get_current_pid_tgid());
}

/// Adds the groups of the running task, under a policy of [`owners::policy`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_groups(policy: u64) -> u64 {
    let generation = owners::generation(policy);
    let cred = Task::current().cred();
    let real = u64::from(cred.read::<u32>(&OFF_CRED_GID));
    let effective = u64::from(cred.read::<u32>(&OFF_CRED_EGID));
    if real == effective {
        portguard_group(generation, real);
    } else {
        portguard_setgid(policy, real, effective);
    }
    let info = cred.follow(&OFF_CRED_GROUP_INFO);
    let count: u32 = info.read(&OFF_GROUPS_COUNT);
    for block in 0..MAX_GROUPS / BLOCK {
        let first = block * BLOCK;
        if first >= count {
            break;
        }
        portguard_group_block(generation, info.0, first.into(), count.into());
    }
    0
}

/// Adds the groups from number `first` on, at most [`BLOCK`], of `count`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portguard_group_block(generation: u64, info: u64, first: u64, count: u64) -> u64 {
    for chunk in 0..u64::from(BLOCK / CHUNK) {
        let first = first + chunk * u64::from(CHUNK);
        if first >= count {
            break;
        }
        portguard_group_chunk(generation, info, first, count);
    }
    0
}

/// Adds the groups from number `first` on, at most [`CHUNK`], of `count`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_group_chunk(generation: u64, info: u64, first: u64, count: u64) -> u64 {
    for i in 0..u64::from(CHUNK) {
        if first + i >= count {
            break;
        }
        let gids = Address(info + u64::from(OFF_GROUPS_GID.load()));
        portguard_group(generation, u64::from(gids.read_at::<u32>((first + i) * 4)));
    }
    0
}

/// Adds a real and an effective gid that differ, under a policy of [`owners::policy`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portguard_setgid(policy: u64, real: u64, effective: u64) -> u64 {
    owners::portguard_deny_group(policy, real);
    owners::portguard_deny_group(policy, effective);
    let generation = owners::generation(policy);
    let (Some(real), Some(effective)) = (
        rules_of_gid(generation, real),
        rules_of_gid(generation, effective),
    ) else {
        return 0;
    };
    let Some(rules) = own_group_rules() else {
        return 0;
    };
    rules.add_rules_of_both_gids(real, effective);
    1
}

/// Adds one group.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_group(generation: u64, gid: u64) -> u64 {
    let Some(named) = rules_of_gid(generation, gid) else {
        return 0;
    };
    let Some(rules) = GROUPS_OF.get_ptr_mut(&bpf_get_current_pid_tgid()) else {
        return 0;
    };
    let (from, into) = (named.as_ptr(), rules.cast::<u64>());
    for i in 0..VECTOR_WORDS {
        // SAFETY: both begin with that many words; the entry of `GROUPS_OF` is this thread's own.
        let (from, into) = unsafe { (from.add(i), into.add(i)) };
        // SAFETY: as above. Volatile, so that no call to a copying function comes of it.
        let word = unsafe { core::ptr::read_volatile(from) };
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(into, *into | word) };
    }
    1
}
