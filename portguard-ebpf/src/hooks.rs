//! The hooks: the order of their checks, cheapest first, and their return values.

use crate::address::BindAddress;
use crate::counters::count;
use crate::evaluate::{Evaluated, Fault, evaluate};
use crate::events::{self, Reported};
use crate::identity::cgroup;
use crate::in_force::{InForce, header};
use crate::kernel_read::{CGROUP_DECIDES, GRANTS, SET_RETVAL, current_cgroup_id};
use crate::socket::{Bound, CgroupBind, SockAddr, Socket};
use crate::typed::{is_kernel_thread, load};
use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::programs::{LsmContext, SockAddrContext};
use portguard_common::{
    Counter, EACCES, EADDRINUSE, EPERM, Errno, EventFlags, Family, Field, HeaderFlags, PortClass,
};

/// Reports a decision, where it is to be reported.
#[inline(always)]
fn report(
    policy: &InForce,
    evaluated: &Evaluated,
    socket: impl FnOnce() -> (u16, Socket, u8),
    bound: impl FnOnce() -> Bound,
) {
    let answer = evaluated.answer;
    if !answer.word().report() {
        return;
    }
    let (port, socket, hook) = socket();
    let mut flags = hook | EventFlags::of_reason(answer.reason());
    if answer.enforced() {
        flags |= EventFlags::ENFORCED;
    }
    if answer.allows() && GRANTS.load() != 0 && socket.protocol.grantable() {
        flags |= EventFlags::GRANTED;
    }
    if answer.is_audit_rule() {
        flags |= EventFlags::AUDIT_RULE;
    }
    let cgroup_id = match evaluated.cgroup_id {
        0 => current_cgroup_id(),
        known => known,
    };
    let generation = policy.generation();
    cgroup::make_known(cgroup_id, generation, || header(policy.slot()));
    let reported = Reported {
        port,
        socket,
        word: answer.word(),
        rule: answer.rule(),
        generation: generation as u32,
        cgroup_id,
        flags,
    };
    events::decision(&reported, &bound());
}

/// bind(2).
#[inline(always)]
pub fn socket_bind(ctx: &LsmContext) -> Result<i32, Fault> {
    let address = SockAddr {
        typed: ctx.arg(1),
        len: ctx.arg(2),
    };
    let Some(port) = address.port() else {
        return Ok(0);
    };
    if port == 0 {
        // No policy protects it, so the daemon's canary can prove by it that this program runs.
        count(Counter::CanaryLsm);
        return Ok(0);
    }
    let Some(policy) = InForce::now() else {
        return Ok(0);
    };
    let class = policy.class(port);
    if !class.is_protected() {
        return Ok(0);
    }
    let sock = load!(pointer, ctx.arg(0), Field::SocketSk);
    if sock.is_null() {
        return Ok(0);
    }
    let Some(socket) = Socket::of_sock(sock, address) else {
        return Ok(0);
    };
    if !policy.is_for(socket.netns) {
        return Ok(0);
    }
    let refusal = decide(
        &policy,
        class,
        port,
        socket,
        || address.bind_address(sock),
        || address.bound(sock),
    )?;
    Ok(refused_with(refusal))
}

/// Decides, counts and reports a bind that an LSM program sees; the errno where it is refused.
#[inline(always)]
pub fn decide(
    policy: &InForce,
    class: PortClass,
    port: u16,
    socket: Socket,
    address: impl Fn() -> BindAddress,
    bound: impl FnOnce() -> Bound,
) -> Result<Option<Errno>, Fault> {
    let entry = policy.entry(class, socket.protocol);
    let evaluated = evaluate(policy, entry, port, socket.protocol, address)?;
    policy.count(evaluated.answer);
    report(policy, &evaluated, || (port, socket, 0), bound);
    Ok(evaluated.answer.refusal())
}

/// The return value of an LSM program that refuses with this errno, a literal each: from Linux 6.12 on the verifier has
/// to see that it is in [-4095, 0].
#[inline(always)]
pub const fn refused_with(errno: Option<Errno>) -> i32 {
    match errno {
        None => 0,
        Some(Errno::Acces) => -EACCES,
        Some(Errno::Perm) => -EPERM,
        Some(Errno::AddrInUse) => -EADDRINUSE,
    }
}

/// Both cgroup hooks. They return 0 to refuse, 1 to let pass, 3 to let pass and skip the capability check.
///
/// Where an LSM program runs it has decided, counted and reported every bind(2). What it cannot see is denied
/// here: a port that another cgroup program put in place of the original one, and binds that the kernel
/// makes for a process (RxRPC, tunnels).
#[inline(always)]
pub fn cgroup_bind(ctx: &SockAddrContext, family: Family) -> Result<i32, Fault> {
    let bind = CgroupBind(ctx.sock_addr);
    let port = bind.port();
    if port == 0 {
        count(Counter::CanaryCgroup);
        return Ok(1);
    }
    let Some(policy) = InForce::now() else {
        return Ok(1);
    };
    let decides = CGROUP_DECIDES.load() != 0;
    let class = policy.class(port);
    if !class.is_protected() || !(decides || class.acts()) {
        return Ok(1);
    }
    let Some(protocol) = bind.protocol() else {
        return Ok(1);
    };
    let entry = policy.entry(class, protocol);
    if !(decides || entry.acts()) || !bind.is_taken(family) {
        return Ok(1);
    }
    if !policy.has(HeaderFlags::ALL_NETNS) && !bind.is_in_initial_netns() {
        return Ok(1);
    }
    if is_kernel_thread() {
        // Binds by kernel threads (NFS, lockd) reach this hook, and no other.
        count(Counter::KernelThread);
        return Ok(1);
    }
    let evaluated = evaluate(&policy, entry, port, protocol, || bind.bind_address(family))?;
    let refusal = evaluated.answer.refusal();
    if refusal.is_some() || decides {
        policy.count(evaluated.answer);
        let socket = || {
            let netns = bind.netns();
            (port, Socket { protocol, netns }, EventFlags::CGROUP_HOOK)
        };
        report(&policy, &evaluated, socket, || bind.bound(family));
    }
    if refusal.is_some() {
        if SET_RETVAL.load() != 0 {
            // SAFETY: a plain number; the loader sets SET_RETVAL only where the helper exists.
            unsafe { bpf_set_retval(refused_with(refusal)) };
        }
        return Ok(0);
    }
    // The first test is a constant to the verifier, which must see no 3 where the kernel has no grants.
    if GRANTS.load() != 0 && evaluated.answer.allows() {
        return Ok(3);
    }
    Ok(1)
}
