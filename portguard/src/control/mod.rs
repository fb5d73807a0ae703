//! The daemon's Unix socket: what is asked over it and who may ask.
//!
//! [`Server`] is the daemon's end, [`ask`] and [`Monitor`] are the commands'.

mod client;
mod error;
mod peer;
mod place;
mod protocol;
mod published;
mod server;
mod session;
mod wanted;

pub use client::{Heard, Monitor, ask};
pub use error::ControlError;
pub use protocol::{Ask, Dropped, Filter, Reply, Request};
pub use published::{Published, events, publish};
pub use server::{CLIENTS, MONITORS, Server};
pub use session::PATIENCE;

/// Where the socket is unless somebody says otherwise.
pub const SOCKET: &str = "/run/portguard/portguard.sock";
