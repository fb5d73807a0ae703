//! One bind, evaluated: the order of the checks, cheapest first, and each hook's return values.

use crate::address::BindAddress;
use crate::counters::count;
use crate::evaluate::{Fault, Query};
use crate::events::{self, Evaluated};
use crate::kernel_read::{CGROUP_DECIDES, GRANTS, OFF_SOCKET_SK, SET_RETVAL, Task};
use crate::maps::{MapImage, POLICY};
use crate::socket::{CgroupBind, SockAddr, Socket};
use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::programs::{LsmContext, SockAddrContext};
use portguard_common::{
    Counter, EACCES, Event, EventFlags, Family, Header, HeaderFlags, Image, Verdict, is_protected,
};

/// `SCTP_SOCKOPT_BINDX_ADD` of `include/uapi/linux/sctp.h`. The hook's other calls are connect and
/// ASCONF, some of them in softirq with a foreign `current`.
const SCTP_SOCKOPT_BINDX_ADD: i32 = 100;

/// The policy in force, or `None` while there is none: the programs are attached first, then the policy is
/// installed.
#[inline(always)]
fn policy() -> Option<MapImage<'static>> {
    POLICY.get(0).map(MapImage)
}

/// Asks for the decision on a bind; `None` where the policy's scope leaves it alone.
#[inline(always)]
fn evaluate(
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
    };
    if header.has(HeaderFlags::GROUP_OR_ADDRESS_RULES) {
        query.address = Some(address());
    }
    let mut reply = query.reply();
    if reply.needs_address() {
        // A reload between our look at the policy and the decision: all of it must be the new one's.
        query.address = Some(address());
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
    Ok(Some(Evaluated {
        port,
        socket,
        decision,
        generation: reply.generation(),
        flags,
    }))
}

/// Reports a decision.
#[inline(always)]
fn report(evaluated: &Evaluated, describe: impl Fn(&mut Event)) {
    if evaluated.decision.report {
        events::decision(evaluated, describe);
    }
}

/// The tail of both LSM hooks. Return values are literals: from Linux 6.12 on the verifier wants to see
/// that they lie in [-4095, 0].
#[inline(always)]
fn lsm(sock: *const u8, address: SockAddr) -> Result<i32, Fault> {
    let Some(port) = address.port() else {
        return Ok(0);
    };
    if port == 0 {
        // No policy protects it, so the daemon can show by it that this program runs.
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
    report(&evaluated, |event| address.describe(event));
    if evaluated.enforced(Verdict::Deny) {
        Ok(-EACCES)
    } else {
        Ok(0)
    }
}

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
    lsm(sock, address)
}

#[inline(always)]
pub fn sctp_bind_connect(ctx: &LsmContext) -> Result<i32, Fault> {
    let option: i32 = ctx.arg(1);
    if option != SCTP_SOCKOPT_BINDX_ADD {
        return Ok(0);
    }
    // The option's buffer may hold several addresses: the first decides the port, and another port
    // behind it is refused (`sctp_do_bind`).
    let address = SockAddr {
        typed: ctx.arg(2),
        len: ctx.arg(3),
    };
    lsm(ctx.arg(0), address)
}

/// What a cgroup program returns: 0 refuses, 1 lets pass, 3 lets pass and skips the capability check.
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
    // Where an LSM program runs it has decided, counted and reported every bind(2). A denial is left for
    // what it cannot see: a port that another cgroup program put in place of the one query for, and the
    // kernel's own binds for a process (RxRPC, tunnels).
    let refused = evaluated.enforced(Verdict::Deny);
    if refused || decides {
        report(&evaluated, |event| bind.describe(family, event));
    }
    if refused {
        if SET_RETVAL.load() != 0 {
            // SAFETY: a plain number; the helper exists where the loader says so.
            unsafe { bpf_set_retval(-EACCES) };
        }
        return Ok(0);
    }
    // The first test is a constant to the verifier: where the kernel knows no grants it must not see a 3.
    if GRANTS.load() != 0 && evaluated.enforced(Verdict::Allow) {
        return Ok(3);
    }
    Ok(1)
}
