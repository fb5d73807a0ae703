//! The metrics: a [`Status`](crate::status::Status) in Prometheus's text format, over HTTP.

mod families;
mod server;
mod text;

pub use server::{MetricsError, listen, serve};
pub use text::{CONTENT_TYPE, render};
