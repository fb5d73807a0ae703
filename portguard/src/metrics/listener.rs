//! The listening end: a TCP address, or a Unix socket for root and a group.

use super::address::MetricsAddress;
use super::connections::Client;
use crate::control::{ControlError, Peer, SocketFile};
use crate::inventory::socket_owner;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// Connections that may wait to be accepted, as far as `net.core.somaxconn` permits: where the queue is full, the kernel
/// drops a scraper's too, which tries again a second later.
const BACKLOG: u32 = 4_096;

/// Why metrics cannot be served.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The address is not available.
    #[error(
        "--metrics {address}: cannot listen there: {source}; give an address of this host and a free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("--metrics unix:{}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: ControlError,
    },
    /// The event loop does not take the Unix socket.
    #[error("--metrics unix:{}: cannot watch it: {source}", path.display())]
    Watch {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A socket that listens for scrapes.
pub struct Listener(Kind);

enum Kind {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        group: Option<u32>,
        /// Held until the end: its drop removes the socket.
        _file: SocketFile,
    },
}

/// A connection, of either kind.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Listens for scrapes; a Unix socket is for root and the members of `group`.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn listen(address: &MetricsAddress, group: Option<u32>) -> Result<Listener, MetricsError> {
    match address {
        MetricsAddress::Tcp(address) => {
            let listener = listen_tcp(*address);
            let failed = |source| MetricsError::Listen {
                address: *address,
                source,
            };
            Ok(Listener(Kind::Tcp(listener.map_err(failed)?)))
        }
        MetricsAddress::Unix(path) => listen_unix(path, group),
    }
}

/// As [`TcpListener::bind`] does, with a longer queue.
fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn listen_unix(path: &Path, group: Option<u32>) -> Result<Listener, MetricsError> {
    let taken = SocketFile::take(path, group, "--metrics unix:PATH");
    let (file, socket) = taken.map_err(|source| MetricsError::Socket {
        path: path.into(),
        source,
    })?;
    let listener = UnixListener::from_std(StdUnixListener::from(socket));
    let listener = listener.map_err(|source| MetricsError::Watch {
        path: path.into(),
        source,
    })?;
    Ok(Listener(Kind::Unix {
        listener,
        group,
        _file: file,
    }))
}

impl Listener {
    /// Its address; `None` for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix { .. } => None,
        }
    }

    /// The next connection, and whose it is; `None` for one without access.
    pub(super) async fn accept(&self) -> io::Result<Option<(Stream, Client)>> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                let client = client_of(&stream, remote);
                Ok(Some((Stream::Tcp(stream), client)))
            }
            Kind::Unix {
                listener, group, ..
            } => {
                let (stream, _) = listener.accept().await?;
                // The file's mode keeps others out too.
                let peer = Peer::of(&stream).ok();
                let peer = peer.filter(|peer| peer.has_access(*group));
                Ok(peer.map(|peer| (Stream::Unix(stream), Client::Uid(peer.uid))))
            }
        }
    }
}

/// The user of a client on this host, who may have many addresses; else the client's address.
fn client_of(stream: &TcpStream, remote: SocketAddr) -> Client {
    let local = stream.local_addr().ok();
    match local.and_then(|local| socket_owner(remote, local)) {
        Some(uid) => Client::Uid(uid),
        None => Client::Address(network(remote.ip().to_canonical())),
    }
}

/// What one host can have: an IPv4 address, an IPv6 network of 64 bits, all of the loopback.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_loopback() => IpAddr::V4([127, 0, 0, 1].into()),
        IpAddr::V4(_) => address,
        IpAddr::V6(address) if address.is_loopback() => IpAddr::V6(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn client_on_this_host_is_its_user() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (stream, remote) = listener.accept().await.unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(client_of(&stream, remote), Client::Uid(uid));
    }

    #[test]
    fn addresses_of_one_host_are_one_client() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("127.3.4.5"), "127.0.0.1");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::1"), "::1");
    }
}
