//! The owners of the caller's user namespaces, whom `deny` rules take for the caller too.
//!
//! A user who is denied a port could take it otherwise as one of their subordinate uids, in a user namespace on the
//! host's network.

use crate::in_force::image;
use crate::kernel_read::{Address, MAX_USER_NAMESPACES, Task, UserNamespace};
use crate::maps::{own_group_rules, rules_of_gid};
use portguard_common::{Header, Image as _, deny_vector, user_vector};

/// The owners are added.
pub const ALL: u64 = 0;
/// There are more of them than are read.
pub const TOO_MANY: u64 = 1;
/// A table is missing.
pub const MISSING: u64 = 2;

/// In place of the address of a namespace: there is none above, and [`MISSING`].
const END: u64 = 0;
const STOP: u64 = 1;

/// A policy: its generation, and from bit 32 the slot of its image.
#[inline(always)]
pub fn policy(slot: u32, generation: u64) -> u64 {
    u64::from(slot) << 32 | generation & 0xffff
}

/// The slot of a [`policy`].
#[inline(always)]
fn slot(policy: u64) -> u32 {
    (policy >> 32) as u32 & 1
}

/// The generation of a [`policy`].
#[inline(always)]
pub fn generation(policy: u64) -> u64 {
    policy & 0xffff
}

/// Adds the owners of the running task's user namespaces to this thread's entry of `GROUPS_OF`, under a [`policy`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portguard_owners(policy: u64) -> u64 {
    let mut namespace = Task::current().user_namespace().0.0;
    for _ in 0..=MAX_USER_NAMESPACES {
        namespace = portguard_owner(policy, namespace);
        if namespace == END {
            return ALL;
        }
        if namespace == STOP {
            return MISSING;
        }
    }
    TOO_MANY
}

/// Adds the owner of a namespace: the namespace above, [`END`] or [`STOP`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_owner(policy: u64, namespace: u64) -> u64 {
    let namespace = UserNamespace(Address(namespace));
    // The initial one is of everyone.
    if namespace.level() == 0 {
        return END;
    }
    let (uid, gid) = (namespace.owner(), namespace.group());
    // One after the other: the stacks of functions that call each other are limited together.
    if portguard_add_owner(policy, u64::from(uid)) != ALL
        || portguard_deny_group(policy, u64::from(gid)) != ALL
    {
        return STOP;
    }
    namespace.parent().0.0
}

/// Adds an owner's uid, under a [`policy`]: a global function takes no pointers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portguard_add_owner(policy: u64, uid: u64) -> u64 {
    let (Some(image), Some(rules)) = (image(slot(policy)), own_group_rules()) else {
        return MISSING;
    };
    let Some(header) = image.page(0).map(Header) else {
        return MISSING;
    };
    let (Some(denies), Some(user)) = (
        deny_vector(&image, &header),
        user_vector(&image, &header, uid as u32),
    ) else {
        return MISSING;
    };
    rules.add_owner_uid(denies, user);
    ALL
}

/// Adds the `deny` rules that name a group, under a [`policy`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portguard_deny_group(policy: u64, gid: u64) -> u64 {
    let (Some(image), Some(rules)) = (image(slot(policy)), own_group_rules()) else {
        return MISSING;
    };
    let Some(header) = image.page(0).map(Header) else {
        return MISSING;
    };
    let Some(denies) = deny_vector(&image, &header) else {
        return MISSING;
    };
    if let Some(named) = rules_of_gid(generation(policy), gid) {
        rules.add_denies_of_gid(denies, named);
    }
    ALL
}
