//! Decision events, and the sinks that they go to.

pub mod cgroup_paths;
mod container;
mod enricher;
mod event;
pub mod executables;
pub mod path_cache;
mod shared_event;
pub mod sinks;

pub use enricher::Enricher;
pub use event::{DecisionEvent, Mode};
pub use shared_event::SharedEvent;
