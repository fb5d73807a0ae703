//! Lists the kernel's sockets and closes one (`NETLINK_SOCK_DIAG`), in the network namespace of the calling thread.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, Nla as _,
};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, TCP_ESTABLISHED, TCP_LISTEN};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use portguard_common::Protocol;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// `TCPF_BOUND_INACTIVE` of `include/net/tcp_states.h` (Linux 6.8): bound, and neither listening nor
/// connected. Older kernels do not list such sockets.
const BOUND_INACTIVE: u32 = 1 << 13;
/// `INET_DIAG_CGROUP_ID` of `include/uapi/linux/inet_diag.h` (Linux 5.9).
const CGROUP_ID: u16 = 21;
/// The kernel fills at most 32 KiB at a time.
const ROOM: usize = 64 * 1024;

/// A protocol in the kernel's list.
#[derive(Clone, Copy, Debug)]
struct Listed {
    /// `IPPROTO_*`.
    number: u8,
    protocol: Protocol,
    /// The states in which a socket holds its port. TCP connections are left out: an accepted one shares the port of
    /// its listener.
    states: u32,
    /// Every kernel with sock_diag lists it; the others are modules, which may be absent.
    always: bool,
}

const LISTEN: u32 = 1 << TCP_LISTEN;
const CLOSE: u32 = StateFlags::CLOSE.bits();
const ESTABLISHED: u32 = 1 << TCP_ESTABLISHED;

/// Policies treat UDP-Lite as udp, but it has its own list; MPTCP listeners are in TCP's.
const LISTED: [Listed; 5] = [
    Listed::new(6, Protocol::Tcp, LISTEN | BOUND_INACTIVE, true),
    Listed::new(17, Protocol::Udp, CLOSE | ESTABLISHED, true),
    Listed::new(136, Protocol::Udp, CLOSE | ESTABLISHED, false),
    Listed::new(132, Protocol::Sctp, LISTEN | CLOSE, false),
    Listed::new(33, Protocol::Dccp, LISTEN, false),
];

impl Listed {
    const fn new(number: u8, protocol: Protocol, states: u32, always: bool) -> Self {
        Self {
            number,
            protocol,
            states,
            always,
        }
    }
}

/// The state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It accepts connections.
    Listen,
    /// It is bound; a UDP socket receives.
    Bound,
    /// It is bound and connected: UDP.
    Connected,
}

/// A socket of the list.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    listed: Listed,
    family: u8,
    /// Its addresses and its cookie, which identify it.
    pub(super) id: SocketId,
    pub(super) state: State,
    /// For IPv6, where the kernel reports it.
    pub(super) v6only: Option<bool>,
    pub(super) uid: u32,
    pub(super) inode: u64,
    /// Id of the cgroup in which it was made.
    pub(super) made_in: Option<u64>,
}

impl Socket {
    pub(super) const fn protocol(&self) -> Protocol {
        self.listed.protocol
    }

    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self.listed.protocol, Protocol::Tcp)
    }

    pub(super) const fn is_inet6(&self) -> bool {
        self.family == AF_INET6
    }

    /// A number that is unique in its network namespace, over time too.
    pub(super) const fn cookie(&self) -> u64 {
        u64::from_ne_bytes(self.id.cookie)
    }

    fn read(listed: Listed, response: InetResponse) -> Self {
        let InetResponse { header, nlas } = response;
        let v6only = nlas.iter().find_map(|nla| match nla {
            Nla::SkV6Only(only) => Some(*only),
            _ => None,
        });
        Self {
            listed,
            family: header.family,
            state: match header.state {
                TCP_LISTEN => State::Listen,
                TCP_ESTABLISHED => State::Connected,
                _ => State::Bound,
            },
            id: header.socket_id,
            v6only,
            uid: header.uid,
            inode: header.inode.into(),
            made_in: nlas.iter().find_map(cgroup_id),
        }
    }
}

fn cgroup_id(nla: &Nla) -> Option<u64> {
    let Nla::Other(other) = nla else { return None };
    let mut bytes = [0; 8];
    if other.kind() != CGROUP_ID || other.value_len() != bytes.len() {
        return None;
    }
    other.emit_value(&mut bytes);
    Some(u64::from_ne_bytes(bytes))
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum DiagError {
    /// The kernel refused it.
    Refused(Errno),
    /// The answer cannot be parsed.
    Garbled(String),
}

impl From<Errno> for DiagError {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

/// A netlink socket for requests about sockets.
pub(super) struct Diag(OwnedFd);

impl Diag {
    /// For the network namespace of the calling thread, wherever it is used.
    pub(super) fn open() -> Result<Self, DiagError> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
        let protocol = Some(netlink::SOCK_DIAG);
        Ok(Self(socket_with(
            family,
            kind,
            SocketFlags::CLOEXEC,
            protocol,
        )?))
    }

    /// All sockets whose port satisfies `is_wanted`.
    pub(super) fn sockets(
        &self,
        is_wanted: impl Fn(u16) -> bool,
    ) -> Result<Vec<Socket>, DiagError> {
        let mut found = Vec::new();
        for listed in LISTED {
            for family in [AF_INET, AF_INET6] {
                match self.dump(listed, family) {
                    Ok(sockets) => found.extend(sockets),
                    // The protocol or its list is absent.
                    Err(DiagError::Refused(Errno::NOENT | Errno::INVAL)) if !listed.always => {}
                    Err(error) => return Err(error),
                }
            }
        }
        found.retain(|socket| is_wanted(socket.id.source_port));
        Ok(found)
    }

    fn dump(&self, listed: Listed, family: u8) -> Result<Vec<Socket>, DiagError> {
        let request = request(listed, family, SocketId::new_v4());
        let message = SockDiagMessage::InetRequest(request);
        self.send(NLM_F_REQUEST | NLM_F_DUMP, message.into())?;
        let mut sockets = Vec::new();
        self.receive(|response| sockets.push(Socket::read(listed, response)))?;
        Ok(sockets)
    }

    /// Asks the kernel to close exactly this socket.
    ///
    /// The kernel finds sockets by their addresses and then compares the cookie. Of several that share a port by
    /// `SO_REUSEPORT` it finds one that depends on the peer's address, so other peers are tried.
    pub(super) fn destroy(&self, socket: &Socket) -> Result<(), DiagError> {
        const PEERS: u16 = 256;
        let result = self.destroy_as(socket, socket.id.clone());
        if socket.state == State::Connected {
            return result;
        }
        let mut peers = 1..PEERS;
        let mut last = result;
        while let (Err(DiagError::Refused(Errno::NOENT)), Some(port)) = (&last, peers.next()) {
            let id = SocketId {
                destination_port: port,
                ..socket.id.clone()
            };
            last = self.destroy_as(socket, id);
        }
        last
    }

    fn destroy_as(&self, socket: &Socket, id: SocketId) -> Result<(), DiagError> {
        let request = request(socket.listed, socket.family, id);
        let message = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        self.send(NLM_F_REQUEST | NLM_F_ACK, message.into())?;
        self.receive(|_| {})
    }

    fn send<M: NetlinkSerializable>(
        &self,
        flags: u16,
        payload: NetlinkPayload<M>,
    ) -> Result<(), DiagError> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        retry_on_intr(|| send(&self.0, &bytes, SendFlags::empty()))?;
        Ok(())
    }

    /// Reads the answer to its end.
    fn receive(&self, mut each: impl FnMut(InetResponse)) -> Result<(), DiagError> {
        let mut room = vec![0; ROOM];
        loop {
            let read = retry_on_intr(|| recv(&self.0, room.as_mut_slice(), RecvFlags::empty()))?.0;
            let mut rest = room.get(..read).unwrap_or_default();
            while !rest.is_empty() {
                let (message, after) = first_message(rest)?;
                rest = after;
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        each(*response);
                    }
                    NetlinkPayload::Done(done) => return outcome(done.code),
                    NetlinkPayload::Error(error) => {
                        return outcome(error.code.map_or(0, Into::into));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The uid of the TCP socket between two addresses; `None` where it is not in this network namespace, or closed.
pub(crate) fn socket_owner(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let (here, there) = (local.ip().to_canonical(), remote.ip().to_canonical());
    let (family, mut id) = match here {
        IpAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        IpAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    (id.source_address, id.source_port) = (here, local.port());
    (id.destination_address, id.destination_port) = (there, remote.port());
    // `INET_DIAG_NOCOOKIE`.
    id.cookie = [u8::MAX; 8];
    let [tcp, ..] = LISTED;
    let message = SockDiagMessage::InetRequest(request(tcp, family, id));
    let diag = Diag::open().ok()?;
    diag.send(NLM_F_REQUEST | NLM_F_ACK, message.into()).ok()?;
    let mut owner = None;
    let answer = diag.receive(|response| {
        // A closed one has no inode, and counts as root's.
        owner = Some(response.header).filter(|header| header.inode != 0);
    });
    answer.ok()?;
    owner.map(|header| header.uid)
}

fn request(listed: Listed, family: u8, socket_id: SocketId) -> InetRequest {
    InetRequest {
        family,
        protocol: listed.number,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::from_bits_retain(listed.states),
        socket_id,
    }
}

/// The first message of the bytes, and the rest.
fn first_message(bytes: &[u8]) -> Result<(NetlinkMessage<SockDiagMessage>, &[u8]), DiagError> {
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes)
        .map_err(|error| DiagError::Garbled(error.to_string()))?;
    // Messages start at multiples of four (`NLMSG_ALIGN`).
    let length = (message.header.length as usize).next_multiple_of(4);
    Ok((message, bytes.get(length..).unwrap_or_default()))
}

/// Netlink codes are negative errnos. 0 is success, and so is the count of a dump.
fn outcome(code: i32) -> Result<(), DiagError> {
    if code < 0 {
        return Err(Errno::from_raw_os_error(-code).into());
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A TCP socket that listens.
    pub(crate) fn listener(address: IpAddr, port: u16, uid: u32) -> Socket {
        let mut id = SocketId::new_v4();
        id.source_port = port;
        id.source_address = address;
        Socket {
            listed: LISTED[0],
            family: if address.is_ipv6() { AF_INET6 } else { AF_INET },
            id,
            state: State::Listen,
            v6only: address.is_ipv6().then_some(false),
            uid,
            inode: 1,
            made_in: None,
        }
    }

    #[test]
    fn diag_lists_a_listener_of_this_process() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listed = Diag::open().unwrap();
        let listed = listed.sockets(|port| port == address.port()).unwrap();
        let mut listed = listed
            .iter()
            .filter(|found| found.id.source_address == address.ip());
        let found = listed.find(|found| found.state == State::Listen).unwrap();
        assert_eq!(found.uid, rustix::process::geteuid().as_raw());
        assert_ne!(found.cookie(), 0);
    }

    #[test]
    fn diag_rejects_bytes_that_are_not_a_message() {
        for bytes in [&[0; 3][..], &[0; 16], &[255; 40]] {
            assert!(matches!(first_message(bytes), Err(DiagError::Garbled(_))));
        }
    }
}
