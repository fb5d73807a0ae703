//! The decision on requests that a test makes up, by the code and the maps of the real programs.
//!
//! Each run of the program decides a batch. The addresses, gids and names of a request are looked up as
//! those of a caller are; only the caller itself is not read.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "the only way to an atomic add on this target"
)]
#![allow(
    dead_code,
    reason = "the files of the real programs, of which this uses a part"
)]

mod address;
mod counters;
mod events;
mod executable;
mod identity;
mod in_force;
mod kernel_read;
mod maps;
mod socket;
mod typed;
#[path = "decide_test/wire.rs"]
mod wire;

use address::BindAddress;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::{btf_map, fexit};
use aya_ebpf::programs::FExitContext;
use identity::{cgroup, groups, owners};
use in_force::{InForce, image};
use kernel_read::Address;
use maps::{MapImage, Path};
use portguard_common::{
    GroupRules, Header, HeaderFlags, Image as _, Lookup, MAX_CGROUP_DEPTH, Protocol, Request,
    UNRESOLVED_CLASS, decide_bind, is_protected,
};
use wire::{
    AUDIT, BATCH, DECIDED, ERRNO, FAULT, NO_MEMORY, REASON, REPORT, RULE, TestName, TestRequest,
    TestResult, UNRESOLVED_CGROUP,
};

/// Names that the requests under one policy may use.
const MAX_NAMES: usize = 1024;

/// The requests of this run. Written by the test.
#[btf_map]
static TEST_REQUESTS: Array<[TestRequest; BATCH], 1> = Array::new();

/// The names of their cgroups. Written by the test, and their addresses by the program.
#[btf_map]
static TEST_NAMES: Array<TestName, MAX_NAMES> = Array::new();

/// The decisions. Written by the program.
#[btf_map]
static TEST_RESULTS: Array<[TestResult; BATCH], 1> = Array::new();

/// Decides all requests. Attached to what BPF_PROG_TEST_RUN calls (`bpf_prog_test_run_tracing`).
#[fexit(function = "bpf_fentry_test1")]
pub fn decide_batch(_: FExitContext) -> i32 {
    for i in 0..BATCH as u64 {
        portguard_test_decide(i);
    }
    0
}

/// Decides request number `i`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_test_decide(i: u64) -> u64 {
    let (Some(requests), Some(results)) = (TEST_REQUESTS.get_ptr(0), TEST_RESULTS.get_ptr_mut(0))
    else {
        return 0;
    };
    let i = MapImage::opaque(i as u32) as usize & (BATCH - 1);
    // SAFETY: within the array; the test writes it between runs only.
    let request = unsafe { &*requests.cast::<TestRequest>().add(i) };
    // SAFETY: within the array.
    let result = unsafe { results.cast::<TestResult>().add(i) };
    let decided = decide(request);
    // SAFETY: as above.
    unsafe { result.write(decided) };
    1
}

#[inline(always)]
fn decide(request: &TestRequest) -> TestResult {
    let Some(slot) = InForce::now().map(|policy| policy.slot()) else {
        return FAULT;
    };
    let Some(image) = image(slot) else {
        return FAULT;
    };
    if !is_protected(&image, request.port) {
        return 0;
    }
    let (Some(header), Some(protocol)) = (
        image.page(0).map(Header),
        Protocol::from_index(request.protocol),
    ) else {
        return FAULT;
    };
    let bind = Request {
        port: request.port,
        protocol,
        uid: request.uid,
        euid: request.euid,
    };
    let caller = Caller {
        header,
        slot,
        request,
    };
    let decided = decide_bind(&image, &header, &bind, &caller);
    if header.has(HeaderFlags::GROUP_RULES) || caller.has_owners() {
        groups::release();
    }
    let Some(decision) = decided else {
        return FAULT;
    };
    let mut result = DECIDED
        | decision.verdict as u64
        | (decision.reason as u64) << REASON
        | (decision.errno as u64) << ERRNO
        | u64::from(decision.rule) << RULE;
    if decision.report {
        result |= REPORT;
    }
    if decision.audit {
        result |= AUDIT;
    }
    result
}

/// The caller of a request.
struct Caller<'a> {
    header: Header<'a>,
    slot: u32,
    request: &'a TestRequest,
}

impl Lookup for Caller<'_> {
    #[inline(always)]
    fn cgroup_class(&self) -> u32 {
        if self.request.unreadable & UNRESOLVED_CGROUP != 0 {
            return UNRESOLVED_CLASS;
        }
        let (root, flags) = (self.header.trie_root(), self.header.trie_root_flags());
        cgroup::class_of(root, flags, |path| fill(path, self.request)) as u32
    }

    #[inline(always)]
    fn address_classes(&self) -> (u32, u32) {
        let address = BindAddress {
            inet6: u64::from(self.request.inet6),
            dual_stack: u64::from(self.request.dual_stack),
            high: self.request.high,
            low: self.request.low,
        };
        address.classes(self.header.generation())
    }

    #[inline(always)]
    fn has_owners(&self) -> bool {
        self.request.owner_count != 0 && self.header.has(HeaderFlags::OWNER_RULES)
    }

    #[inline(always)]
    fn group_rules(&self) -> Option<&GroupRules> {
        let generation = self.header.generation();
        let policy = owners::policy(self.slot, generation);
        let unread = self.request.unreadable & NO_MEMORY != 0;
        if unread && (self.header.has(HeaderFlags::GROUP_RULES) || self.has_owners()) {
            return groups::without_memory(&self.header, self.has_owners());
        }
        let add_groups = || {
            let gids = Address::of(&raw const self.request.gids);
            let count = u64::from(self.request.gid_count);
            groups::portguard_group_block(generation, gids.0, 0, count);
            if self.request.setgid != 0 {
                let [real, effective] = self.request.differing_gids.map(u64::from);
                groups::portguard_setgid(policy, real, effective);
            }
        };
        groups::collect_by(&self.header, self.has_owners(), add_groups, || {
            let all = self.request.owners.iter();
            for (i, &[uid, gid]) in all.enumerate() {
                if i as u32 >= self.request.owner_count {
                    break;
                }
                let (uid, gid) = (u64::from(uid), u64::from(gid));
                if owners::portguard_add_owner(policy, uid) != owners::ALL
                    || owners::portguard_deny_group(policy, gid) != owners::ALL
                {
                    return owners::MISSING;
                }
            }
            owners::ALL
        })
    }
}

/// Makes the path of a request from its names, each of which is a node with its name's address.
#[inline(always)]
fn fill(path: &mut Path, request: &TestRequest) -> Result<(), u64> {
    path.depth = u64::from(request.depth);
    for i in 0..MAX_CGROUP_DEPTH {
        if i as u64 >= path.depth {
            break;
        }
        let Some(name) = TEST_NAMES.get_ptr_mut(u32::from(request.names[i])) else {
            return Err(u64::from(UNRESOLVED_CLASS));
        };
        // SAFETY: an entry of the map, which nothing else writes during a run.
        unsafe { (*name).address = &raw const (*name).text as u64 };
        path.nodes[i] = name as u64;
        path.count += 1;
    }
    Ok(())
}

/// Never reached, as in the real programs.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
