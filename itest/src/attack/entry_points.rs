//! The table of entry points: the ways to bind a port, and which hook decides each.

use crate::harness::probe::{Attempt, BindSyscall, inet, inet6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a hook decides an entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Decided and reported, once.
    Decided,
    /// There is no hook: a limit that docs/overview.md names.
    Missed,
}

/// The form of the address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// `sockaddr_in`
    V4,
    /// `sockaddr_in6`
    V6,
    /// `sockaddr_in6` with an IPv4-mapped address.
    Mapped,
    /// `sockaddr_in` of `AF_UNSPEC` with the wildcard address.
    Unspec,
}

/// A socket option set before the bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Plain,
    /// `SO_REUSEPORT`
    ReusePort,
    /// `TCP_REPAIR`, which needs `CAP_NET_ADMIN`.
    Repair,
    /// `IP_BIND_ADDRESS_NO_PORT`
    NoPort,
}

/// A Linux version.
type Version = (u32, u32);

#[derive(Debug)]
pub(super) struct EntryPoint {
    pub(super) name: &'static str,
    /// `AF_*`, `SOCK_*`, `IPPROTO_*`
    socket: (i32, i32, i32),
    form: Form,
    pub(super) setup: Setup,
    pub(super) syscall: BindSyscall,
    by_lsm: Coverage,
    by_cgroup: Coverage,
    /// `allow` can skip the kernel's capability check.
    pub(super) grantable: bool,
    /// The `protocol` of its events.
    pub(super) protocol: &'static str,
    /// The first and the last kernel of the guests that has it.
    pub(super) kernels: (Version, Version),
}

const EVERY: (Version, Version) = ((5, 10), (99, 0));
const SINCE_6_1: (Version, Version) = ((6, 1), (99, 0));
const SINCE_6_12: (Version, Version) = ((6, 12), (99, 0));
const UNTIL_6_12: (Version, Version) = ((5, 10), (6, 12));
const ONLY_6_12: (Version, Version) = ((6, 12), (6, 12));
const UNTIL_6_18: (Version, Version) = ((5, 10), (6, 18));

const INET: i32 = libc::AF_INET;
const INET6: i32 = libc::AF_INET6;
const SMC: i32 = 43;
const STREAM: i32 = libc::SOCK_STREAM;
const DGRAM: i32 = libc::SOCK_DGRAM;
const SEQPACKET: i32 = libc::SOCK_SEQPACKET;
const DCCP_SOCKET: i32 = libc::SOCK_DCCP;
const DCCP: i32 = libc::IPPROTO_DCCP;
const UDPLITE: i32 = libc::IPPROTO_UDPLITE;
const MPTCP: i32 = libc::IPPROTO_MPTCP;
const SCTP: i32 = libc::IPPROTO_SCTP;
const IPPROTO_SMC: i32 = 256;

/// One line of the table.
macro_rules! entry_points {
    ($($name:literal $socket:tt $form:ident $setup:ident $syscall:ident $lsm:ident $cgroup:ident $grantable:ident $protocol:ident $kernels:ident)*) => {
        &[$(EntryPoint {
            name: $name,
            socket: $socket,
            form: Form::$form,
            setup: Setup::$setup,
            syscall: BindSyscall::$syscall,
            by_lsm: Coverage::$lsm,
            by_cgroup: Coverage::$cgroup,
            grantable: entry_points!(@$grantable),
            protocol: stringify!($protocol),
            kernels: $kernels,
        }),*]
    };
    (@grant) => { true };
    (@never) => { false };
}

/// Every way to bind a port of the host.
pub(super) const ENTRY_POINTS: &[EntryPoint] = entry_points![
    // name                      socket                       form   setup     syscall       LSM    cgroup  grant protocol kernels
    "tcp"                        (INET, STREAM, 0)            V4     Plain     Bind       Decided Decided  grant tcp      EVERY
    "udp"                        (INET, DGRAM, 0)             V4     Plain     Bind       Decided Decided  grant udp      EVERY
    "tcp of AF_INET6"            (INET6, STREAM, 0)           V6     Plain     Bind       Decided Decided  grant tcp      EVERY
    "udp of AF_INET6"            (INET6, DGRAM, 0)            V6     Plain     Bind       Decided Decided  grant udp      EVERY
    "tcp, IPv4-mapped"           (INET6, STREAM, 0)           Mapped Plain     Bind       Decided Decided  grant tcp      EVERY
    "udp, IPv4-mapped"           (INET6, DGRAM, 0)            Mapped Plain     Bind       Decided Decided  grant udp      EVERY
    "tcp by AF_UNSPEC"           (INET, STREAM, 0)            Unspec Plain     Bind       Decided Decided  grant tcp      EVERY
    "udp by AF_UNSPEC"           (INET, DGRAM, 0)             Unspec Plain     Bind       Decided Decided  grant udp      EVERY
    "SO_REUSEPORT"               (INET, DGRAM, 0)             V4     ReusePort Bind       Decided Decided  grant udp      EVERY
    "TCP_REPAIR"                 (INET, STREAM, 0)            V4     Repair    Bind       Decided Decided  grant tcp      EVERY
    "IP_BIND_ADDRESS_NO_PORT"    (INET, STREAM, 0)            V4     NoPort    Bind       Decided Decided  grant tcp      EVERY
    "mptcp"                      (INET, STREAM, MPTCP)        V4     Plain     Bind       Decided Decided  grant tcp      SINCE_6_1
    "udplite"                    (INET, DGRAM, UDPLITE)       V4     Plain     Bind       Decided Decided  grant udp      UNTIL_6_18
    "dccp"                       (INET, DCCP_SOCKET, DCCP)    V4     Plain     Bind       Decided Decided  grant dccp     UNTIL_6_12
    "sctp"                       (INET, STREAM, SCTP)         V4     Plain     Bind       Decided Missed   never sctp     EVERY
    "sctp SEQPACKET"             (INET, SEQPACKET, SCTP)      V4     Plain     Bind       Decided Missed   never sctp     EVERY
    "sctp of AF_INET6"           (INET6, STREAM, SCTP)        V6     Plain     Bind       Decided Missed   never sctp     EVERY
    "sctp, IPv4 in 16 bytes"     (INET6, STREAM, SCTP)        V4     Plain     Bind       Decided Missed   never sctp     EVERY
    "sctp bindx"                 (INET, STREAM, SCTP)         V4     Plain     Bindx      Decided Missed   never sctp     EVERY
    "sctp bindx of AF_INET6"     (INET6, SEQPACKET, SCTP)     V6     Plain     Bindx      Decided Missed   never sctp     EVERY
    "AF_SMC"                     (SMC, STREAM, 0)             V4     Plain     Bind       Decided Decided  grant tcp      UNTIL_6_12
    "AF_SMC over IPv6"           (SMC, STREAM, 1)             V6     Plain     Bind       Decided Decided  grant tcp      UNTIL_6_12
    "IPPROTO_SMC"                (INET, STREAM, IPPROTO_SMC)  V4     Plain     Bind       Decided Decided  grant tcp      ONLY_6_12
    "IORING_OP_BIND"             (INET, STREAM, 0)            V4     Plain     IoUring    Decided Decided  grant tcp      SINCE_6_12
    "IORING_OP_BIND by SQPOLL"   (INET, STREAM, 0)            V4     Plain     Sqpoll     Decided Decided  grant tcp      SINCE_6_12
    "socketcall"                 (INET, STREAM, 0)            V4     Plain     Socketcall Decided Decided  grant tcp      EVERY
    "bind by int 0x80"           (INET6, DGRAM, 0)            V6     Plain     Bind32     Decided Decided  grant udp      EVERY
    "a 32-bit binary"            (INET, STREAM, 0)            V4     Plain     Elf32      Decided Decided  grant tcp      EVERY
];

impl EntryPoint {
    /// A bind of a port. The wildcard address needs no interface that is up.
    pub(super) fn attempt(&self, port: u16, wildcard: bool) -> Attempt {
        let (v4, v6) = if wildcard {
            (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
        } else {
            (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
        };
        let address = match self.form {
            Form::V4 => inet(INET, v4, port),
            Form::V6 => inet6(v6, port),
            Form::Mapped => inet6(v4.to_ipv6_mapped(), port),
            Form::Unspec => inet(libc::AF_UNSPEC, Ipv4Addr::UNSPECIFIED, port),
        };
        let (domain, kind, protocol) = self.socket;
        Attempt::new(domain, kind, protocol, address).by(self.syscall)
    }

    pub(super) fn coverage(&self, hook: &str) -> Coverage {
        if hook == "lsm" {
            self.by_lsm
        } else {
            self.by_cgroup
        }
    }

    /// Whether the guests' kernel of this version has it.
    pub(super) fn is_in(&self, kernel: Version) -> bool {
        let (first, last) = self.kernels;
        (first..=last).contains(&kernel)
    }
}
