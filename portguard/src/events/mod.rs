//! Decision events, and the sinks that they go to.

pub mod cgroup_paths;
mod event;
mod shared_event;
pub mod sinks;

pub use event::{DecisionEvent, Enricher};
pub use shared_event::SharedEvent;
