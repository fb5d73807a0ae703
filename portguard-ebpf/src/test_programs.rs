//! Programs that stand for those of other software on the same hooks: portguard is measured and tested beside
//! them.
#![no_std]
#![no_main]

use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::{btf_map, cgroup_sock_addr, lsm};
use aya_ebpf::programs::{LsmContext, SockAddrContext};

/// The port that [`rewrite`] binds in place of the original one.
const REWRITTEN: u16 = 80;

/// Does nothing: the cost of any program on `socket_bind`.
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    ctx.arg(3)
}

/// Lets every bind pass: the cost of any program on `bind4`.
#[cgroup_sock_addr(bind4)]
pub fn pass(_: SockAddrContext) -> i32 {
    1
}

/// Refuses every bind.
#[cgroup_sock_addr(bind4)]
pub fn refuse(_: SockAddrContext) -> i32 {
    0
}

/// Grants every bind.
#[cgroup_sock_addr(bind4)]
pub fn grant(_: SockAddrContext) -> i32 {
    3
}

/// Lets every bind pass that a program before it refused.
#[cgroup_sock_addr(bind4)]
pub fn undo(_: SockAddrContext) -> i32 {
    // SAFETY: a plain number.
    unsafe { bpf_set_retval(0) };
    1
}

/// Replaces the port of the bind.
#[cgroup_sock_addr(bind4)]
pub fn rewrite(ctx: SockAddrContext) -> i32 {
    // SAFETY: the program's own context, of which the verifier lets this field be written.
    unsafe { (*ctx.sock_addr).user_port = REWRITTEN.to_be().into() };
    1
}

/// `struct socket_bind_rule` of systemd's `src/core/bpf/socket_bind/socket-bind-api.bpf.h`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SocketBindRule {
    family: u32,
    action: u32,
    ports: u16,
    first: u16,
}

/// The rules of [`systemd_bind`]; the bench sets their number.
#[btf_map]
pub static SOCKET_BIND_RULES: Array<SocketBindRule, 1> = Array::new();

const AF_UNSPEC: u32 = 0;
const AF_INET: u32 = 2;

/// Decides as systemd's program for `SocketBindAllow=` does (`socket-bind.bpf.c`): by the first of at most 128 rules.
#[cgroup_sock_addr(bind4)]
pub fn systemd_bind(ctx: SockAddrContext) -> i32 {
    // SAFETY: the program's own context.
    let (user_family, family, port) = unsafe {
        (
            (*ctx.sock_addr).user_family,
            (*ctx.sock_addr).family,
            (*ctx.sock_addr).user_port,
        )
    };
    if user_family != AF_INET || family != AF_INET {
        return 1;
    }
    let port = u32::from(u16::from_be(port as u16));
    for number in 0..128 {
        let Some(rule) = SOCKET_BIND_RULES.get(number) else {
            break;
        };
        let first = u32::from(rule.first);
        let of_port = port >= first && port < first + u32::from(rule.ports);
        if (rule.family == AF_UNSPEC || rule.family == AF_INET) && (rule.ports == 0 || of_port) {
            return (rule.action & 1) as i32;
        }
    }
    1
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
