//! The daemon's Unix socket: requests and replies, and the clients' access.
//!
//! [`Server`] is the daemon's end, [`ask`] and [`Monitor`] are the commands'.

mod broadcast;
mod client;
mod error;
mod filter;
mod limits;
mod listener;
mod peer;
mod protocol;
mod server;
mod session;

pub use broadcast::{EventSender, event_channel, publish};
pub use client::{Monitor, MonitorItem, ask};
pub use error::ControlError;
pub use limits::{CLIENTS, MONITORS};
pub(crate) use listener::SocketFile;
pub(crate) use peer::Peer;
pub use protocol::{Dropped, Filter, PendingRequest, Reply, Request};
pub use server::Server;
pub use session::CLIENT_TIMEOUT;

/// The default path of the socket.
pub const SOCKET: &str = "/run/portguard/portguard.sock";

/// The option that gives another one.
const SOCKET_OPTION: &str = "--socket";
