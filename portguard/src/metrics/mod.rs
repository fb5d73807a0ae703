//! The metrics: a [`Status`](crate::status::Status) in Prometheus's text format, over HTTP.

mod address;
mod connections;
mod families;
mod listener;
mod server;
mod text;

pub use address::{MetricsAddress, MetricsAddressError};
pub use listener::{Listener, MetricsError, listen};
pub use server::serve;
pub use text::{CONTENT_TYPE, render};
