//! Programs that stand for those of other software on the same hooks: portguard is measured and tested beside
//! them.
#![no_std]
#![no_main]

use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::{cgroup_sock_addr, lsm};
use aya_ebpf::programs::{LsmContext, SockAddrContext};

/// The port that [`rewrite`] binds in place of the original one.
const REWRITTEN: u16 = 80;

/// Does nothing: the cost of any program on `socket_bind`.
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

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
