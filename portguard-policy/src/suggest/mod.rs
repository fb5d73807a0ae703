//! Suggested policies: they allow what was recorded, or what a host does without portguard.

mod demand;
mod host;
mod rules;
mod units;

pub use demand::{Demand, Who};
pub use host::{HostError, Survey, inspect};
pub use rules::{policy, policy_beside};
pub use units::owner_of;
