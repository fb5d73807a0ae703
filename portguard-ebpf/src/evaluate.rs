//! The decision on one bind by the running task, as a function that the verifier checks once.
//!
//! Such a function takes and returns numbers only, so query and reply are packed into words. It looks up
//! the policy itself: a decision comes from one policy as a whole, even where its caller saw another.

use crate::address::BindAddress;
use crate::counters::{count, count_hit};
use crate::identity::{cgroup, groups};
use crate::kernel_read::{HOST_NETNS, Task, current_cgroup_id};
use crate::maps::{MapImage, POLICY};
use crate::socket::Socket;
use aya_ebpf::helpers::bpf_get_current_uid_gid;
use portguard_common::{
    Counter, Decision, Errno, GroupRules, Header, HeaderFlags, Image, Lookup, Protocol, Reason,
    Request, Verdict, decide_bind, is_protected,
};

/// A table of the policy is missing; no image from the compiler lacks one.
///
/// Fail open to the kernel's own rule (never to a grant), counted: denying every bind for a broken image
/// could lock an operator out of the machine.
pub struct Fault;

/// A bind to decide.
pub struct Query {
    pub port: u16,
    pub socket: Socket,
    /// The address; `None` where the policy that the caller saw has no rule that needs it.
    pub address: Option<BindAddress>,
    /// Whether this program counts all its decisions; else it counts only what it refuses.
    pub counts: bool,
    /// The id of the caller's cgroup, read once for the decision and its event.
    pub cgroup_id: u64,
    /// Whether the query was made before.
    pub repeated: bool,
}

/// In the packed query: [`Query::counts`], that it has an address, and [`Query::repeated`].
const COUNTS: u64 = 1 << 20;
const HAS_ADDRESS: u64 = 1 << 21;
const REPEATED: u64 = 1 << 22;

/// The packed reply, from bit 0 verdict, report, audit, enforced, reason; errno; 16 the rule; 32 the generation; 48 the state.
#[derive(Clone, Copy)]
pub struct Reply(u64);

const REPORT: u64 = 4;
/// The rule is in audit mode, and the policy is not.
const AUDIT: u64 = 8;
const ENFORCED: u64 = 16;
/// Where the reason begins.
const REASON: u32 = 5;
/// Where the errno begins.
const ERRNO: u32 = 7;
const DECIDED: u64 = 1 << 48;
const FAULT: u64 = 2 << 48;
const REPEAT: u64 = 4 << 48;

impl Query {
    /// Decides.
    #[inline(always)]
    pub fn reply(&self) -> Reply {
        let has_address = if self.address.is_some() {
            HAS_ADDRESS
        } else {
            0
        };
        let address = self.address.unwrap_or(BindAddress::UNUSED);
        let bind = u64::from(self.port)
            | (self.socket.protocol as u64) << 16
            | address.kind() << 18
            | has_address
            | if self.counts { COUNTS } else { 0 }
            | if self.repeated { REPEATED } else { 0 }
            | u64::from(self.socket.netns) << 32;
        let (high, low) = (address.high, address.low);
        Reply(portguard_decide(bind, high, low, self.cgroup_id))
    }
}

impl Reply {
    #[inline(always)]
    pub fn is_decided(self) -> bool {
        self.0 & DECIDED != 0
    }

    #[inline(always)]
    pub fn is_fault(self) -> bool {
        self.0 & FAULT != 0
    }

    /// Whether to repeat the query, with the address and the cgroup of now: the policy changed meanwhile to one that
    /// needs the address, or the caller was moved to another cgroup.
    #[inline(always)]
    pub fn must_repeat(self) -> bool {
        self.0 & REPEAT != 0
    }

    /// Whether only the rule, and not the policy, is in audit mode.
    #[inline(always)]
    pub fn is_audit_rule(self) -> bool {
        self.0 & AUDIT != 0
    }

    /// Whether the verdict is enforced.
    #[inline(always)]
    pub fn enforced(self) -> bool {
        self.0 & ENFORCED != 0
    }

    #[inline(always)]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }

    #[inline(always)]
    pub fn decision(self) -> Decision {
        Decision {
            verdict: Verdict::from_bits(self.0 as u8),
            rule: (self.0 >> 16) as u16,
            report: self.0 & REPORT != 0,
            audit: self.is_audit_rule(),
            errno: Errno::from_bits((self.0 >> ERRNO) as u8),
            reason: Reason::from_bits((self.0 >> REASON) as u8),
        }
    }

    #[inline(always)]
    fn new(header: &Header<'_>, decision: Decision) -> Self {
        let mut word = DECIDED
            | decision.verdict as u64
            | (decision.reason as u64) << REASON
            | (decision.errno as u64) << ERRNO
            | u64::from(decision.rule) << 16
            | (header.generation() & 0xffff) << 32;
        if decision.report {
            word |= REPORT;
        }
        if header.has(HeaderFlags::ENFORCE) {
            word |= if decision.audit { AUDIT } else { ENFORCED };
        }
        Self(word)
    }
}

/// Decides for the running task: [`Query`] in, [`Reply`] out, which is 0 where nothing is decided.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_decide(bind: u64, high: u64, low: u64, cgroup_id: u64) -> u64 {
    let Some(pages) = POLICY.get(0) else { return 0 };
    let image = MapImage(pages);
    let port = bind as u16;
    if !is_protected(&image, port) {
        return 0;
    }
    let Some(header) = image.page(0).map(Header) else {
        return FAULT;
    };
    if (bind >> 32) as u32 != HOST_NETNS.load() && !header.has(HeaderFlags::ALL_NETNS) {
        return 0;
    }
    let Some(protocol) = Protocol::from_index((bind >> 16 & 3) as u8) else {
        return 0;
    };
    if header.has(HeaderFlags::GROUP_OR_ADDRESS_RULES) && bind & HAS_ADDRESS == 0 {
        return REPEAT;
    }
    let request = Request {
        port,
        protocol,
        uid: bpf_get_current_uid_gid() as u32,
        euid: Task::current().euid(),
    };
    let caller = Caller {
        header,
        address: BindAddress::unpack(bind >> 18, high, low),
        cgroup_id,
        has_owners: header.has(HeaderFlags::OWNER_RULES)
            && Task::current().user_namespace().level() != 0,
    };
    let decided = decide_bind(&image, &header, &request, &caller);
    if header.has(HeaderFlags::GROUP_RULES) || caller.has_owners {
        groups::release();
    }
    let Some(decision) = decided else {
        // The policy may have changed while the owners were added. It cannot change a second time: the loader's write
        // waits for this program.
        return if bind & REPEATED == 0 { REPEAT } else { FAULT };
    };
    // Of a caller that is moved once more the path is not read, see `decide_bind`.
    if bind & REPEATED == 0
        && header.has(HeaderFlags::CGROUP_PATHS)
        && current_cgroup_id() != cgroup_id
    {
        return REPEAT;
    }
    let reply = Reply::new(&header, decision);
    let refuses = reply.enforced() && decision.verdict as u8 == Verdict::Deny as u8;
    if bind & COUNTS != 0 || refuses {
        // Here and not where it is reported: the hits are in the pages of the policy that decided.
        count_hit(&image, header.hits_page(), decision.rule);
        count(match decision.verdict {
            Verdict::Kernel => Counter::Kernel,
            Verdict::Allow => Counter::Allow,
            Verdict::Deny => Counter::Deny,
        });
    }
    reply.0
}

/// The running task and the address that it binds.
struct Caller<'a> {
    header: Header<'a>,
    address: BindAddress,
    cgroup_id: u64,
    has_owners: bool,
}

impl Lookup for Caller<'_> {
    #[inline(always)]
    fn cgroup_class(&self) -> u32 {
        cgroup::current_class(&self.header, self.cgroup_id)
    }

    #[inline(always)]
    fn address_classes(&self) -> (u32, u32) {
        self.address.classes(self.header.generation())
    }

    #[inline(always)]
    fn has_owners(&self) -> bool {
        self.has_owners
    }

    #[inline(always)]
    fn group_rules(&self) -> Option<&GroupRules> {
        groups::collect(&self.header, self.has_owners)
    }
}
