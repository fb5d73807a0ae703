//! The hooks: the order of their checks, cheapest first, and their return values.

use crate::address::BindAddress;
use crate::counters::count;
use crate::evaluate::{Fault, Query};
use crate::events::{self, Evaluated};
use crate::kernel_read::{
    CGROUP_DECIDES, GRANTS, OFF_SOCKET_SK, SET_RETVAL, Task, current_cgroup_id,
};
use crate::maps::{MapImage, POLICY};
use crate::socket::{Bound, CgroupBind, SockAddr, Socket};
use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::programs::{LsmContext, SockAddrContext};
use portguard_common::{
    Counter, EACCES, EADDRINUSE, EPERM, Errno, EventFlags, Family, Header, HeaderFlags, Image,
    Verdict, is_protected,
};

/// The policy in force; `None` between the programs' attachment and the installation of the policy.
#[inline(always)]
pub fn policy() -> Option<MapImage<'static>> {
    POLICY.get(0).map(MapImage)
}

/// Evaluates a bind; `None` where it is outside the policy's scope.
#[inline(always)]
pub fn evaluate(
    header: &Header<'_>,
    socket: Socket,
    port: u16,
    hook: u8,
    counts: bool,
    address: impl Fn() -> BindAddress,
) -> Result<Option<Evaluated>, Fault> {
    let mut query = Query {
        port,
        socket,
        address: None,
        counts,
        cgroup_id: current_cgroup_id(),
        repeated: false,
    };
    if header.has(HeaderFlags::GROUP_OR_ADDRESS_RULES) {
        query.address = Some(address());
    }
    let mut reply = query.reply();
    if reply.must_repeat() {
        // A reload came in between, or a move: the whole decision must be the new policy's, by the new cgroup.
        query.address = Some(address());
        query.cgroup_id = current_cgroup_id();
        query.repeated = true;
        reply = query.reply();
    }
    if reply.is_fault() {
        count(Counter::Fault);
        return Err(Fault);
    }
    if !reply.is_decided() {
        return Ok(None);
    }
    let decision = reply.decision();
    let mut flags = hook | EventFlags::of_reason(decision.reason);
    if reply.enforced() {
        flags |= EventFlags::ENFORCED;
        if decision.verdict as u8 == Verdict::Allow as u8
            && GRANTS.load() != 0
            && socket.protocol.grantable()
        {
            flags |= EventFlags::GRANTED;
        }
    }
    if reply.is_audit_rule() {
        flags |= EventFlags::AUDIT_RULE;
    }
    Ok(Some(Evaluated {
        port,
        socket,
        decision,
        generation: reply.generation(),
        cgroup_id: query.cgroup_id,
        flags,
    }))
}

/// Reports a decision.
#[inline(always)]
pub fn report(evaluated: &Evaluated, bound: impl Fn() -> Bound) {
    if evaluated.decision.report {
        events::decision(evaluated, &bound());
    }
}

/// bind(2).
#[inline(always)]
pub fn socket_bind(ctx: &LsmContext) -> Result<i32, Fault> {
    let socket: *const u8 = ctx.arg(0);
    let address = SockAddr {
        typed: ctx.arg(1),
        len: ctx.arg(2),
    };
    // SAFETY: `struct socket` by BTF, and the offset of its `sk` pointer by BTF.
    let sock = unsafe {
        *socket
            .add(OFF_SOCKET_SK.load() as usize)
            .cast::<*const u8>()
    };
    let Some(port) = address.port() else {
        return Ok(0);
    };
    if port == 0 {
        // No policy protects it, so the daemon's canary can prove by it that this program runs.
        count(Counter::CanaryLsm);
        return Ok(0);
    }
    let Some(image) = policy() else {
        return Ok(0);
    };
    if !is_protected(&image, port) || sock.is_null() {
        return Ok(0);
    }
    let Some(socket) = Socket::of_sock(sock, address) else {
        return Ok(0);
    };
    let header = image.page(0).map(Header).ok_or(Fault)?;
    let Some(evaluated) = evaluate(&header, socket, port, 0, true, || {
        address.bind_address(sock)
    })?
    else {
        return Ok(0);
    };
    report(&evaluated, || address.bound(sock));
    Ok(refused_with(evaluated.refusal()))
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
#[inline(always)]
pub fn cgroup_bind(ctx: &SockAddrContext, family: Family) -> Result<i32, Fault> {
    let bind = CgroupBind(ctx.sock_addr);
    let port = bind.port();
    if port == 0 {
        count(Counter::CanaryCgroup);
        return Ok(1);
    }
    let Some(image) = policy() else { return Ok(1) };
    if !is_protected(&image, port) {
        return Ok(1);
    }
    let Some(socket) = bind.socket(family) else {
        return Ok(1);
    };
    let header = image.page(0).map(Header).ok_or(Fault)?;
    if CGROUP_DECIDES.load() == 0 && !header.has(HeaderFlags::ACTS | HeaderFlags::ENFORCE) {
        return Ok(1);
    }
    if Task::current().is_kernel_thread() {
        // Binds by kernel threads (NFS, lockd) reach this hook, and no other.
        count(Counter::KernelThread);
        return Ok(1);
    }
    let decides = CGROUP_DECIDES.load() != 0;
    let hook = EventFlags::CGROUP_HOOK;
    let Some(evaluated) = evaluate(&header, socket, port, hook, decides, || {
        bind.bind_address(family)
    })?
    else {
        return Ok(1);
    };
    // Where an LSM program runs it has decided, counted and reported every bind(2). What it cannot see is denied
    // here: a port that another cgroup program put in place of the original one, and binds that the kernel
    // makes for a process (RxRPC, tunnels).
    let refusal = evaluated.refusal();
    if refusal.is_some() || decides {
        report(&evaluated, || bind.bound(family));
    }
    if refusal.is_some() {
        if SET_RETVAL.load() != 0 {
            // SAFETY: a plain number; the loader sets SET_RETVAL only where the helper exists.
            unsafe { bpf_set_retval(refused_with(refusal)) };
        }
        return Ok(0);
    }
    // The first test is a constant to the verifier, which must see no 3 where the kernel has no grants.
    if GRANTS.load() != 0 && evaluated.enforced(Verdict::Allow) {
        return Ok(3);
    }
    Ok(1)
}
