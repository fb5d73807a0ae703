//! The daemon's Unix socket: what is asked over it and who may ask.
//!
//! [`Server`] is the daemon's end, [`ask`] and [`Monitor`] are the commands'.

mod broadcast;
mod client;
mod error;
mod filter;
mod listener;
mod peer;
mod protocol;
mod server;
mod session;

pub use broadcast::{Published, events, publish};
pub use client::{Monitor, MonitorItem, ask};
pub use error::ControlError;
pub use protocol::{Dropped, Filter, PendingRequest, Reply, Request};
pub use server::{CLIENTS, MONITORS, Server};
pub use session::PATIENCE;

/// Where the socket is unless somebody says otherwise.
pub const SOCKET: &str = "/run/portguard/portguard.sock";
