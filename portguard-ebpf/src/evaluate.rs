//! The decision on one bind by the running task: from the memo of the policy, or by `decide_bind`.
//!
//! The verifier checks `portguard_decide` once, as such a function takes and returns numbers only, so query and reply are
//! packed into words.

use crate::address::BindAddress;
use crate::counters::count;
use crate::identity::{cgroup, groups};
use crate::in_force::{InForce, image};
use crate::kernel_read::current_cgroup_id;
use crate::maps::MapImage;
use crate::typed::{current_uids, has_owners};
use portguard_common::{
    Answer, Counter, Entry, GroupRules, Header, HeaderFlags, Image as _, Kind, Lookup, Protocol,
    Request, decide_bind,
};

/// A table of the policy is missing; no image from the compiler lacks one.
///
/// Fail open to the kernel's own rule (never to a grant), counted: denying every bind for a broken image
/// could lock an operator out of the machine.
pub struct Fault;

/// A decided bind.
#[derive(Clone, Copy)]
pub struct Evaluated {
    /// The decision.
    pub answer: Answer,
    /// The id of the cgroup that the decision is about: the caller may be in another one by now. 0 where the decision
    /// did not ask for it.
    pub cgroup_id: u64,
}

/// Decides a bind of which the policy's memo says `entry`.
#[inline(always)]
pub fn evaluate(
    policy: &InForce,
    entry: Entry,
    port: u16,
    protocol: Protocol,
    address: impl Fn() -> BindAddress,
) -> Result<Evaluated, Fault> {
    let mut cgroup_id = 0;
    let mut reply = remembered(policy, entry, &mut cgroup_id, &address);
    if !reply.is_decided() {
        let mut query = Query {
            port,
            protocol,
            slot: policy.slot(),
            address: BindAddress::UNUSED,
            cgroup_id: current_cgroup_id(),
            repeated: false,
        };
        if policy.has(HeaderFlags::GROUP_OR_ADDRESS_RULES) {
            query.address = address();
        }
        reply = query.reply();
        if reply.must_repeat() {
            // A move came in between: the whole decision must be by the new cgroup.
            query.cgroup_id = current_cgroup_id();
            query.repeated = true;
            reply = query.reply();
        }
        if !reply.is_decided() {
            count(Counter::Fault);
            return Err(Fault);
        }
        cgroup_id = query.cgroup_id;
    }
    Ok(Evaluated {
        answer: reply.answer(),
        cgroup_id,
    })
}

/// What the memo says of the caller and the address.
#[inline(always)]
fn remembered(
    policy: &InForce,
    entry: Entry,
    cgroup_id: &mut u64,
    address: impl Fn() -> BindAddress,
) -> Reply {
    if entry.is(Kind::Alone) {
        return Reply::of(entry.answer());
    }
    if entry.is(Kind::ByUser) {
        let (uid, euid) = current_uids();
        if uid == euid && !(entry.asks_owners() && has_owners()) {
            return Reply::of(policy.answer_for_user(entry, uid));
        }
    }
    if entry.is(Kind::ByCgroup) {
        *cgroup_id = current_cgroup_id();
        if let Some(class) = cgroup::known_class(*cgroup_id, policy.generation()) {
            return Reply::of(policy.answer_for_class(entry, class));
        }
    }
    if entry.is(Kind::ByAddress) {
        let (class, other) = address().classes(policy.generation());
        if class == other {
            return Reply::of(policy.answer_for_class(entry, class));
        }
    }
    Reply::NONE
}

/// A bind that `decide_bind` decides.
struct Query {
    port: u16,
    protocol: Protocol,
    /// The slot of the image.
    slot: u32,
    /// The address, where the policy has a rule that needs it.
    address: BindAddress,
    /// The id of the caller's cgroup, read once for the decision and its event.
    cgroup_id: u64,
    /// Whether the query was made before.
    repeated: bool,
}

/// In the packed query: [`Query::repeated`].
const REPEATED: u64 = 1 << 22;
/// Where the slot begins.
const SLOT: u32 = 24;

/// An [`Answer`] and above it what became of the query.
#[derive(Clone, Copy)]
struct Reply(u64);

impl Reply {
    const NONE: Self = Self(0);
    const DECIDED: u64 = 1 << 48;
    const REPEAT: u64 = 1 << 49;

    #[inline(always)]
    fn of(answer: Answer) -> Self {
        Self(Self::DECIDED | u64::from(answer.0))
    }

    #[inline(always)]
    fn is_decided(self) -> bool {
        self.0 & Self::DECIDED != 0
    }

    /// Whether to repeat the query with the cgroup of now: the caller was moved to another.
    #[inline(always)]
    fn must_repeat(self) -> bool {
        self.0 & Self::REPEAT != 0
    }

    #[inline(always)]
    fn answer(self) -> Answer {
        Answer(self.0 as u32)
    }
}

impl Query {
    /// Decides.
    #[inline(always)]
    fn reply(&self) -> Reply {
        let bind = u64::from(self.port)
            | (self.protocol as u64) << 16
            | self.address.kind() << 18
            | if self.repeated { REPEATED } else { 0 }
            | u64::from(self.slot) << SLOT;
        let (high, low) = (self.address.high, self.address.low);
        Reply(portguard_decide(bind, high, low, self.cgroup_id))
    }
}

/// Decides for the running task: [`Query`] in, [`Reply`] out, which is 0 where a table is missing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_decide(bind: u64, high: u64, low: u64, cgroup_id: u64) -> u64 {
    let slot = (bind >> SLOT) as u32 & 1;
    let Some(image) = image(slot) else {
        return 0;
    };
    let Some(header) = image.page(0).map(Header) else {
        return 0;
    };
    let Some(protocol) = Protocol::from_index((bind >> 16 & 3) as u8) else {
        return 0;
    };
    let (uid, euid) = current_uids();
    let request = Request {
        port: bind as u16,
        protocol,
        uid: uid as u32,
        euid: euid as u32,
    };
    let caller = Caller {
        header,
        slot,
        address: BindAddress::unpack(bind >> 18, high, low),
        cgroup_id,
        has_owners: header.has(HeaderFlags::OWNER_RULES) && has_owners(),
    };
    let decided = decide_bind(&image, &header, &request, &caller);
    // Asked again: a value that is kept over the decision is another state to the verifier, which then walks all of it twice.
    // And by a number that the compiler does not know for the flags, or it makes this two functions with a loop each.
    let flags = u64::from(MapImage::opaque(header.flags() as u32));
    if flags & HeaderFlags::GROUP_RULES != 0
        || flags & HeaderFlags::OWNER_RULES != 0 && has_owners()
    {
        groups::release();
    }
    let Some(decision) = decided else {
        return 0;
    };
    // Of a caller that is moved once more the path is not read, see `decide_bind`.
    if bind & REPEATED == 0
        && header.has(HeaderFlags::CGROUP_RULES)
        && current_cgroup_id() != cgroup_id
    {
        return Reply::REPEAT;
    }
    let answer = Answer::new(
        decision.word(),
        decision.rule,
        header.has(HeaderFlags::ENFORCE),
    );
    Reply::of(answer.because(decision.reason)).0
}

/// The running task and the address that it binds.
struct Caller<'a> {
    header: Header<'a>,
    slot: u32,
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
        groups::collect(&self.header, self.slot, self.has_owners)
    }
}
