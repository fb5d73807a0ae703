//! The daemon's socket, and the commands that talk to it: real sockets, with a daemon that enforces nothing.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

mod commands;
mod daemon;
mod listener;
mod monitors;
mod peers;
mod requests;
