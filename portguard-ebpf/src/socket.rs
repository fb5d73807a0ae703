//! The socket and the address of a bind, out of each hook's context.
//!
//! LSM programs read through BTF-typed pointers, which the JIT turns into plain loads; the cgroup
//! programs have most of it in their context.

use crate::address::BindAddress;
use crate::kernel_read::{Address, BIT_SK_IPV6ONLY, OFF_NET_INUM, OFF_SK_NET};
use crate::typed::load;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use portguard_common::{EventFlags, Family, Field, Protocol};

const AF_UNSPEC: u16 = 0;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const AF_SMC: u16 = 43;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_SCTP: u16 = 132;
const SOCK_RAW: u16 = 3;

/// Offsets in `struct sockaddr_in` and `sockaddr_in6` (`include/uapi/linux/in.h`, `in6.h`).
const IN_ADDR: u64 = 4;
const IN6_ADDR: u64 = 8;
/// `sizeof(struct sockaddr_in)`: the least length that every IP protocol accepts.
const SOCKADDR_IN: i32 = 16;
/// `SIN6_LEN_RFC2133` (`include/net/ipv6.h`): the least length that `inet6_bind` accepts.
const SOCKADDR_IN6: i32 = 24;

/// A socket that has ports.
#[derive(Clone, Copy)]
pub struct Socket {
    pub protocol: Protocol,
    /// Inode number of its network namespace.
    pub netns: u32,
}

/// The address of a bind through an LSM hook: `len` bytes of kernel memory. Bytes past them are stale and must
/// not be read.
#[derive(Clone, Copy)]
pub struct SockAddr {
    pub typed: *const u8,
    pub len: i32,
}

impl SockAddr {
    /// The family that the address claims.
    ///
    /// Read again at each use: the verifier would walk all that follows once for each family it knows of a
    /// copy.
    #[inline(always)]
    fn family(self) -> u16 {
        // SAFETY: a BTF-typed pointer to `struct sockaddr`, whose first field this is.
        unsafe { core::ptr::read_volatile(self.typed.cast::<u16>()) }
    }

    /// The port, host byte order, or `None` where the address is too short for any IP protocol, which
    /// will refuse it.
    #[inline(always)]
    pub fn port(self) -> Option<u16> {
        if self.len < SOCKADDR_IN {
            return None;
        }
        // SAFETY: within `struct sockaddr`; every inet address has its port at byte 2.
        let port = unsafe { *self.typed.add(2).cast::<u16>() };
        Some(u16::from_be(port))
    }

    #[inline(always)]
    fn is_any4(self) -> bool {
        // SAFETY: within `struct sockaddr`, which is 16 bytes.
        unsafe { *self.typed.add(IN_ADDR as usize).cast::<u32>() == 0 }
    }

    /// Whether a socket of `family` accepts this address.
    ///
    /// A bind that the kernel refuses anyway is not decided, so that the caller gets the kernel's own errno.
    #[inline(always)]
    fn is_taken_by(self, family: u16, protocol: u16) -> bool {
        let claimed = self.family();
        // `__inet_bind`: AF_UNSPEC is taken for AF_INET where the address is the wildcard.
        let inet = claimed == AF_INET || (claimed == AF_UNSPEC && self.is_any4());
        let inet6 = claimed == AF_INET6 && self.len >= SOCKADDR_IN6;
        match family {
            AF_INET => inet,
            // `sctp_do_bind`: an IPv6 socket takes an IPv4 address, and its 16 bytes do.
            AF_INET6 => inet6 || (claimed == AF_INET && protocol == IPPROTO_SCTP),
            // `smc_bind` hands the address to the TCP socket below.
            AF_SMC => inet || inet6,
            _ => false,
        }
    }

    /// The address, for rules that name some. `sock` is the typed socket.
    #[inline(always)]
    pub fn bind_address(self, sock: *const u8) -> BindAddress {
        let family = Family::of_address(self.family());
        bind_address(Address(self.typed as u64), family, Address(sock as u64))
    }

    /// What an event says of the address.
    #[inline(always)]
    pub fn bound(self, sock: *const u8) -> Bound {
        match Family::of_address(self.family()) {
            Family::Inet => {
                // SAFETY: within `struct sockaddr`, which is 16 bytes.
                let word = unsafe { *self.typed.add(IN_ADDR as usize).cast::<u32>() };
                Bound::new(Family::Inet, [u64::from(word), 0], Address(sock as u64))
            }
            Family::Inet6 => bound_to(
                Address(self.typed as u64),
                Family::Inet6,
                Address(sock as u64),
            ),
        }
    }
}

/// The address at `address`, for rules that name some.
#[inline(always)]
pub fn bind_address(address: Address, family: Family, sock: Address) -> BindAddress {
    match family {
        Family::Inet => BindAddress {
            inet6: 0,
            dual_stack: 0,
            high: u64::from(address.read_at::<u32>(IN_ADDR)),
            low: 0,
        },
        Family::Inet6 => BindAddress {
            inet6: 1,
            dual_stack: dual_stack(sock),
            high: address.read_at(IN6_ADDR),
            low: address.read_at(IN6_ADDR + 8),
        },
    }
}

/// What an event says of the address at `address`.
///
/// Probe reads, since typed access ends with the 16 bytes of `struct sockaddr`.
#[inline(always)]
pub fn bound_to(address: Address, family: Family, sock: Address) -> Bound {
    let words = match family {
        Family::Inet => [u64::from(address.read_at::<u32>(IN_ADDR)), 0],
        Family::Inet6 => [address.read_at(IN6_ADDR), address.read_at(IN6_ADDR + 8)],
    };
    Bound::new(family, words, sock)
}

/// What an event says of the address of a bind.
pub struct Bound {
    /// 1 for an IPv6 address.
    pub inet6: u64,
    /// Bits of [`EventFlags`].
    pub flags: u8,
    /// The bytes of [`portguard_common::Event::address`] as words.
    pub words: [u64; 2],
}

impl Bound {
    #[inline(always)]
    fn new(family: Family, words: [u64; 2], sock: Address) -> Self {
        let flags = match family {
            Family::Inet => 0,
            Family::Inet6 => EventFlags::V6ONLY & (dual_stack(sock) as u8).wrapping_sub(1),
        };
        Self {
            inet6: u64::from(family as u8 == Family::Inet6 as u8),
            flags,
            words,
        }
    }
}

/// 1 where a socket's `skc_ipv6only` is not set.
///
/// Another thread may set it between the decision and the bind itself: see the limits in docs/overview.md.
#[inline(always)]
fn dual_stack(sock: Address) -> u64 {
    let bit = BIT_SK_IPV6ONLY.load();
    let byte: u8 = sock.read_at(u64::from(bit / 8));
    u64::from(!(byte >> (bit % 8)) & 1)
}

impl Socket {
    /// The socket behind a BTF-typed `struct sock`, or `None` where portguard does not decide the bind.
    #[inline(always)]
    pub fn of_sock(sock: *const u8, address: SockAddr) -> Option<Self> {
        let family = load!(u16, sock, Field::SkFamily);
        let number = load!(u16, sock, Field::SkProtocol);
        let protocol = if family == AF_INET && number == IPPROTO_TCP && address.family() == AF_INET
        {
            // Most binds: what follows would find the same.
            if load!(u16, sock, Field::SkType) == SOCK_RAW {
                return None;
            }
            Protocol::Tcp
        } else if !address.is_taken_by(family, number) {
            return None;
        } else if family == AF_SMC {
            Protocol::Tcp
        } else {
            Protocol::of_socket(load!(u16, sock, Field::SkType), number)?
        };
        let net = load!(pointer, sock, Field::SkNet);
        if net.is_null() {
            return None;
        }
        Some(Self {
            protocol,
            netns: load!(u32, net, Field::NetInum),
        })
    }
}

/// The bind of a cgroup program.
#[derive(Clone, Copy)]
pub struct CgroupBind(pub *mut bpf_sock_addr);

macro_rules! context_field {
    ($name:ident) => {
        context_field!($name, $name);
    };
    ($name:ident, $field:ident) => {
        #[inline(always)]
        fn $name(self) -> u32 {
            // SAFETY: the program's own context; the verifier rewrites the load of this field.
            unsafe { core::ptr::read_volatile(&raw const (*self.0).$field) }
        }
    };
}

impl CgroupBind {
    context_field!(user_family);
    context_field!(user_port);
    context_field!(user_ip4);
    context_field!(type_);
    context_field!(number, protocol);

    #[inline(always)]
    pub fn port(self) -> u16 {
        u16::from_be(self.user_port() as u16)
    }

    /// The protocol of the socket, or `None` where it has no ports.
    #[inline(always)]
    pub fn protocol(self) -> Option<Protocol> {
        Protocol::of_socket(self.type_() as u16, self.number() as u16)
    }

    /// Whether a socket of `family` accepts the address. The kernel has checked the length, and checks the address
    /// family after us (`__inet_bind`, `__inet6_bind`).
    #[inline(always)]
    pub fn is_taken(self, family: Family) -> bool {
        let user_family = self.user_family() as u16;
        match family {
            Family::Inet => {
                user_family == AF_INET || (user_family == AF_UNSPEC && self.user_ip4() == 0)
            }
            Family::Inet6 => user_family == AF_INET6,
        }
    }

    /// Whether the socket is in the initial network namespace.
    #[inline(always)]
    pub fn is_in_initial_netns(self) -> bool {
        // SAFETY: the program's own context.
        let own = unsafe { bpf_get_netns_cookie(self.0.cast()) };
        // SAFETY: null stands for the initial namespace.
        let initial = unsafe { bpf_get_netns_cookie(core::ptr::null_mut()) };
        own == initial
    }

    /// The socket.
    #[inline(always)]
    fn sock(self) -> Address {
        // SAFETY: the program's own context.
        let sk = unsafe { (*self.0).__bindgen_anon_1.sk };
        Address::of(sk as *const u8)
    }

    /// Inode number of the socket's network namespace.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        self.sock().follow(&OFF_SK_NET).read(&OFF_NET_INUM)
    }

    /// Word `i` of the IPv6 address.
    #[inline(always)]
    fn user_ip6(self, i: usize) -> u32 {
        // SAFETY: the program's own context.
        let words = unsafe { &raw const (*self.0).user_ip6 }.cast::<u32>();
        // SAFETY: one of the four words of `user_ip6`, since every caller gives 0 to 3.
        let word = unsafe { words.add(i) };
        // SAFETY: as above; the verifier rewrites each load.
        unsafe { core::ptr::read_volatile(word) }
    }

    /// The address, for rules that name some.
    #[inline(always)]
    pub fn bind_address(self, family: Family) -> BindAddress {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        match family {
            Family::Inet => BindAddress {
                inet6: 0,
                dual_stack: 0,
                high: u64::from(self.user_ip4()),
                low: 0,
            },
            Family::Inet6 => BindAddress {
                inet6: 1,
                dual_stack: dual_stack(self.sock()),
                high: pair(self.user_ip6(0), self.user_ip6(1)),
                low: pair(self.user_ip6(2), self.user_ip6(3)),
            },
        }
    }

    /// What an event says of the address.
    #[inline(always)]
    pub fn bound(self, family: Family) -> Bound {
        let address = self.bind_address(family);
        Bound::new(family, [address.high, address.low], self.sock())
    }
}
