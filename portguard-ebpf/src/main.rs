//! The eBPF programs: the entry points of the hooks.
//!
//! Non-sleepable LSM programs and cgroup programs run inside `rcu_read_lock` but can be preempted by
//! another task that runs the same program, so nothing here keeps state in per-CPU memory: state is on
//! the stack or in a ring buffer reservation, and counters are atomic.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "the only way to an atomic add on this target"
)]

mod address;
mod counters;
mod evaluate;
mod events;
mod executable;
mod hooks;
mod identity;
mod in_force;
mod kernel_read;
mod maps;
mod sctp;
mod socket;
mod typed;

use aya_ebpf::macros::{cgroup_sock_addr, lsm};
use aya_ebpf::programs::{LsmContext, SockAddrContext};
use aya_log_ebpf::error;
use evaluate::Fault;
use portguard_common::Family;

/// The program's return value; for a fault a line in its log and `kernel`, the value that lets the bind pass.
///
/// A macro and not a function: the log's code is large, and where two programs share it the compiler makes a
/// call of it, which the verifier refuses.
macro_rules! or_report {
    ($ctx:ident, $answer:expr, $kernel:literal) => {
        match $answer {
            Ok(answer) => answer,
            Err(Fault) => {
                error!(
                    &$ctx,
                    "a table of the policy is missing: the kernel's own rule held"
                );
                $kernel
            }
        }
    };
}

/// Every bind(2), io_uring bind and socketcall: all of them call `security_socket_bind`.
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    or_report!(ctx, hooks::socket_bind(&ctx), 0)
}

/// SCTP's `setsockopt(SCTP_SOCKOPT_BINDX_ADD)`, which binds without `socket_bind`.
#[lsm(hook = "sctp_bind_connect")]
pub fn sctp_bind_connect(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(4);
    if earlier != 0 {
        return earlier;
    }
    or_report!(ctx, sctp::sctp_bind_connect(&ctx), 0)
}

/// Grants on AF_INET sockets, and denials of binds that no LSM program sees.
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    or_report!(ctx, hooks::cgroup_bind(&ctx, Family::Inet), 1)
}

/// Grants on AF_INET6 sockets, and denials of binds that no LSM program sees.
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    or_report!(ctx, hooks::cgroup_bind(&ctx, Family::Inet6), 1)
}

/// Loads only where a cgroup program may grant (Linux 5.12); never attached.
///
/// The programs above do not show it: until Linux 6.8 the verifier may take a path that returns 3 for one
/// that returns 1 (`check_return_code` does not ask for precision), so 5.10 may accept what it ignores.
#[cgroup_sock_addr(bind4)]
pub fn grant_probe(_: SockAddrContext) -> i32 {
    3
}

/// No panic is reachable: a call to this would be an endless loop, which the verifier refuses.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
