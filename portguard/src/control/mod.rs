//! The daemon's Unix socket: what is asked over it and who may ask.

mod protocol;

pub use protocol::{Ask, Filter, Reply, Request};
