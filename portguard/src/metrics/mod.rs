//! The metrics: a [`Status`](crate::status::Status) in Prometheus's text format or as OpenMetrics, over HTTP.

mod address;
mod connections;
mod decision_families;
mod families;
mod family;
mod listener;
mod negotiation;
mod process_families;
mod rules;
mod server;
mod text;

pub use address::{MetricsAddress, MetricsAddressError};
pub use listener::{Listener, MetricsError, listen};
pub use rules::MetricsRules;
pub use server::serve;
pub use text::{Exposition, render, render_textfile};
