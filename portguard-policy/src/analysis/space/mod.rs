//! The space of all binds, split into regions in which each policy decides by one rule.
//!
//! Ports are grouped by the compiler's intervals, users and groups by the ranges of the rules; cgroups and
//! addresses stand for the compiler's classes, one example for each. [`crate::compile::Tables::decide`] decides a
//! region, for one bind of it. Everything is exact except for paths deeper than the kernel walks, of which only
//! examples are tried.

mod bind_space;
mod budget;
mod cuts;
mod display;
mod effect;
mod policy_view;
mod port_group;
mod region;
mod rows;
mod users;

pub use bind_space::{BindSpace, Split};
pub use budget::{Budget, SpaceError};
pub use display::{Fields, callers_text, ports_text};
pub use effect::{DecidedBy, Effect, EffectByRule};
pub use policy_view::PolicyView;
pub use port_group::PortGroup;
pub use region::Region;
pub use rows::Row;
pub use users::{Callers, UidRanges, Uids, Users};
