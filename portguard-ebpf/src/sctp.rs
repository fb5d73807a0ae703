//! SCTP's `bindx`, which binds several addresses at once: each of them is decided.
//!
//! `sctp_setsockopt_bindx` has checked that the buffer holds whole addresses. `sctp_do_bind` then takes them one after the
//! other, and undoes all where one is refused.

use crate::counters::count;
use crate::evaluate::Fault;
use crate::hooks::{self, refused_with};
use crate::in_force::InForce;
use crate::kernel_read::{Address, OFF_NET_INUM, OFF_SK_FAMILY, OFF_SK_NET, OFF_SK_NUM};
use crate::socket::{AF_INET, AF_INET6, Socket, bind_address, bound_to};
use aya_ebpf::programs::LsmContext;
use portguard_common::{Counter, EACCES, Errno, Family, HeaderFlags, Protocol};

/// `SCTP_SOCKOPT_BINDX_ADD` of `include/uapi/linux/sctp.h`. The hook's other calls are connect and
/// ASCONF, some of them in softirq with a foreign `current`.
const BINDX_ADD: i32 = 100;

/// Addresses that are decided. A call with more is refused.
const MAX_ADDRESSES: u32 = 256;

/// Offset of the port in `struct sockaddr_in` and `sockaddr_in6`.
const PORT: u64 = 2;
/// `sizeof(struct sockaddr_in)` and `sizeof(struct sockaddr_in6)`: how far the next address is.
const SOCKADDR_IN: u64 = 16;
const SOCKADDR_IN6: u64 = 28;

/// What [`portguard_bindx_address`] returns: from bit 0 the port, then flags, and from bit 32 the bytes of the address, 0
/// at the end of the buffer.
#[derive(Clone, Copy)]
struct Step(u64);

impl Step {
    const REFUSED: u64 = 1 << 16;
    const FAULT: u64 = 1 << 17;
    /// Where the [`Errno`] begins.
    const ERRNO: u32 = 18;
    const LEN: u32 = 32;
}

/// The hook. Its return values are literals, as in [`crate::hooks`].
#[inline(always)]
pub fn sctp_bind_connect(ctx: &LsmContext) -> Result<i32, Fault> {
    let option: i32 = ctx.arg(1);
    if option != BINDX_ADD {
        return Ok(0);
    }
    let (sock, buffer): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(2));
    let len: i32 = ctx.arg(3);
    // Numbers: the offset in the buffer is not constant.
    let (sock, buffer) = (Address::of(sock), Address::of(buffer));
    // A bound socket keeps its port, which port 0 stands for.
    let mut step = Step(u64::from(sock.read::<u16>(&OFF_SK_NUM)));
    let mut at = 0;
    for _ in 0..MAX_ADDRESSES {
        let rest = (len as u64).wrapping_sub(at);
        step = Step(portguard_bindx_address(
            sock.0,
            buffer.0 + at,
            rest,
            step.0 & 0xffff,
        ));
        if step.0 & Step::FAULT != 0 {
            return Err(Fault);
        }
        if step.0 & Step::REFUSED != 0 {
            let errno = Errno::from_bits((step.0 >> Step::ERRNO) as u8);
            return Ok(refused_with(Some(errno)));
        }
        if step.0 >> Step::LEN == 0 {
            return Ok(0);
        }
        at += step.0 >> Step::LEN;
    }
    if at < len as u64 && has_a_say(sock, step.0 as u16) {
        count(Counter::Unresolved);
        return Ok(-EACCES);
    }
    Ok(0)
}

/// Decides one address. `rest` bytes are left of the buffer; `port` is that of the socket, or of an address before.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_bindx_address(sock: u64, address: u64, rest: u64, port: u64) -> u64 {
    let (sock, address) = (Address(sock), Address(address));
    if rest < SOCKADDR_IN {
        return 0;
    }
    let claimed: u16 = address.read_at(0);
    let len = if claimed == AF_INET6 {
        SOCKADDR_IN6
    } else {
        SOCKADDR_IN
    };
    let own = u16::from_be(address.read_at(PORT));
    let port = if own == 0 { port as u16 } else { own };
    let next = len << Step::LEN | u64::from(port);
    let family: u16 = sock.read(&OFF_SK_FAMILY);
    // An IPv6 socket takes IPv4 addresses too; the kernel refuses the others.
    let taken = claimed == family || (claimed == AF_INET && family == AF_INET6);
    // Of port 0 the kernel chooses the port.
    if !taken || port == 0 {
        return next;
    }
    match decide(sock, address, Family::of_address(claimed), port) {
        Ok(None) => next,
        Ok(Some(errno)) => Step::REFUSED | (errno as u64) << Step::ERRNO,
        Err(Fault) => Step::FAULT,
    }
}

/// Decides and reports; the errno where the bind is refused.
#[inline(always)]
fn decide(
    sock: Address,
    address: Address,
    family: Family,
    port: u16,
) -> Result<Option<Errno>, Fault> {
    let Some(policy) = InForce::now() else {
        return Ok(None);
    };
    let class = policy.class(port);
    let socket = socket(sock);
    if !class.is_protected() || !policy.is_for(socket.netns) {
        return Ok(None);
    }
    hooks::decide(
        &policy,
        class,
        port,
        socket,
        || bind_address(address, family, sock),
        || bound_to(address, family, sock),
    )
}

#[inline(always)]
fn socket(sock: Address) -> Socket {
    Socket {
        protocol: Protocol::Sctp,
        netns: sock.follow(&OFF_SK_NET).read(&OFF_NET_INUM),
    }
}

/// Whether the policy decides and enforces binds of this port by this socket.
#[inline(always)]
fn has_a_say(sock: Address, port: u16) -> bool {
    let Some(policy) = InForce::now() else {
        return false;
    };
    policy.has(HeaderFlags::ENFORCE)
        && policy.class(port).is_protected()
        && policy.is_for(socket(sock).netns)
}
