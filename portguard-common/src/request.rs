//! A bind as rules match it: its protocol, port and users.

/// The protocol a rule can name.
///
/// MPTCP and SMC are [`Protocol::Tcp`], UDP-Lite is [`Protocol::Udp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// TCP, MPTCP and SMC.
    Tcp = 0,
    /// UDP and UDP-Lite.
    Udp = 1,
    /// SCTP. It cannot be granted: `sctp_do_bind` checks the capability, and no cgroup hook comes before.
    Sctp = 2,
    /// DCCP (gone from Linux 6.16 on).
    Dccp = 3,
}

/// `IPPROTO_*` of the kernel's `include/uapi/linux/in.h` and `SOCK_*` of `include/linux/net.h`.
mod number {
    pub(super) const SOCK_STREAM: u16 = 1;
    pub(super) const SOCK_RAW: u16 = 3;
    pub(super) const ICMP: u16 = 1;
    pub(super) const TCP: u16 = 6;
    pub(super) const UDP: u16 = 17;
    pub(super) const DCCP: u16 = 33;
    pub(super) const ICMPV6: u16 = 58;
    pub(super) const L2TP: u16 = 115;
    pub(super) const SCTP: u16 = 132;
    pub(super) const UDPLITE: u16 = 136;
    pub(super) const SMC: u16 = 256;
    pub(super) const MPTCP: u16 = 262;
}

impl Protocol {
    /// Every protocol, in the order of their numbers here.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp];

    /// The protocol of an inet socket, or `None` where it has no port space of TCP's kind (raw, ping, L2TP).
    ///
    /// An unknown protocol number counts as tcp or udp by its socket type, so that a protocol new to the kernel
    /// fails closed.
    ///
    /// A table and not comparisons, after which the verifier would know the protocol and walk all that
    /// follows once for each.
    #[inline(always)]
    #[must_use]
    pub fn of_socket(sock_type: u16, number: u16) -> Option<Self> {
        if sock_type == number::SOCK_RAW {
            return None;
        }
        let known = match TABLE.get(usize::from(number)) {
            Some(entry) => *entry,
            None => BY_TYPE,
        };
        let index = match known {
            NO_PORTS => return None,
            BY_TYPE if sock_type == number::SOCK_STREAM => Self::Tcp as u8,
            BY_TYPE => Self::Udp as u8,
            index => index,
        };
        Self::from_index(index)
    }

    /// Whether `return 3` of a cgroup bind program can skip the capability check of this protocol.
    #[inline(always)]
    #[must_use]
    pub const fn grantable(self) -> bool {
        !matches!(self, Self::Sctp)
    }

    /// The word used in policies, events and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
        }
    }

    /// The protocol with this discriminant.
    #[inline(always)]
    #[must_use]
    pub const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Tcp),
            1 => Some(Self::Udp),
            2 => Some(Self::Sctp),
            3 => Some(Self::Dccp),
            _ => None,
        }
    }
}

/// In [`TABLE`]: the socket type decides.
const BY_TYPE: u8 = 4;
/// In [`TABLE`]: no ports.
const NO_PORTS: u8 = 5;

/// For each `IPPROTO_*` a [`Protocol`], [`BY_TYPE`] or [`NO_PORTS`].
static TABLE: [u8; 512] = {
    let mut table = [BY_TYPE; 512];
    table[number::TCP as usize] = Protocol::Tcp as u8;
    table[number::MPTCP as usize] = Protocol::Tcp as u8;
    table[number::SMC as usize] = Protocol::Tcp as u8;
    table[number::UDP as usize] = Protocol::Udp as u8;
    table[number::UDPLITE as usize] = Protocol::Udp as u8;
    table[number::SCTP as usize] = Protocol::Sctp as u8;
    table[number::DCCP as usize] = Protocol::Dccp as u8;
    table[number::ICMP as usize] = NO_PORTS;
    table[number::ICMPV6 as usize] = NO_PORTS;
    table[number::L2TP as usize] = NO_PORTS;
    table
};

/// The address family of the socket, which is not always that of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// `AF_INET`.
    Inet = 4,
    /// `AF_INET6`.
    Inet6 = 6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Inet, Self::Inet6];

    /// The word used in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Inet6 => "inet6",
        }
    }

    /// The family that an address of `sa_family` is bound as: IPv6 for `AF_INET6` (10), IPv4 for `AF_INET` and
    /// for `AF_UNSPEC`, which the kernel treats as `AF_INET`.
    #[inline(always)]
    #[must_use]
    pub const fn of_address(sa_family: u16) -> Self {
        if sa_family == 10 {
            Self::Inet6
        } else {
            Self::Inet
        }
    }
}

/// The parts of a bind that every policy looks at; the others come from a [`crate::Lookup`].
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Port in host byte order.
    pub port: u16,
    /// Protocol of the socket.
    pub protocol: Protocol,
    /// Real uid of the caller, an id of the initial user namespace.
    pub uid: u32,
    /// Effective uid of the caller, an id of the initial user namespace.
    pub euid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_without_ports_has_no_protocol() {
        assert_eq!(Protocol::of_socket(3, 6), None, "raw TCP");
        assert_eq!(Protocol::of_socket(2, 1), None, "ping");
        assert_eq!(Protocol::of_socket(2, 58), None, "ping6");
        assert_eq!(Protocol::of_socket(2, 115), None, "l2tp");
    }

    #[test]
    fn mptcp_smc_and_udplite_share_a_protocol() {
        assert_eq!(Protocol::of_socket(1, 262), Some(Protocol::Tcp));
        assert_eq!(Protocol::of_socket(1, 256), Some(Protocol::Tcp));
        assert_eq!(Protocol::of_socket(2, 136), Some(Protocol::Udp));
        assert_eq!(Protocol::of_socket(5, 132), Some(Protocol::Sctp));
        assert_eq!(Protocol::of_socket(6, 33), Some(Protocol::Dccp));
    }

    #[test]
    fn unknown_protocol_fails_closed() {
        assert_eq!(Protocol::of_socket(1, 200), Some(Protocol::Tcp));
        assert_eq!(Protocol::of_socket(2, 200), Some(Protocol::Udp));
    }
}
