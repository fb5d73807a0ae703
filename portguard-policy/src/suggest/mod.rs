//! The policy that allows what was seen: from decision events, or from what a host does without portguard.

mod host;
mod rules;
mod units;

pub use host::{Findings, HostError, inspect};
pub use rules::{Demand, Who, policy};
pub use units::owner_of;
