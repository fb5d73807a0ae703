//! Programs of others, as a machine may have them: what portguard is measured beside, and tested against.
#![no_std]
#![no_main]

use aya_ebpf::macros::{cgroup_sock_addr, lsm};
use aya_ebpf::programs::{LsmContext, SockAddrContext};

/// The port that [`rewrite`] puts in place of the one asked for.
const REWRITTEN: u16 = 80;

/// Does nothing: what any program on `socket_bind` costs.
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    ctx.arg(3)
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

/// Binds another port than the caller asked for.
#[cgroup_sock_addr(bind4)]
pub fn rewrite(ctx: SockAddrContext) -> i32 {
    // SAFETY: the program's own context, of which the verifier lets this field be written.
    unsafe { (*ctx.sock_addr).user_port = REWRITTEN.to_be().into() };
    1
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
