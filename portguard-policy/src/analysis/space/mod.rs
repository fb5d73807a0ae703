//! The space of all binds, cut into regions in which a policy, or each of two, decides by one rule.
//!
//! Ports are told apart by the compiler's tables, cgroups and addresses by an example of each of the
//! compiler's classes, users and groups by their ranges. What is decided in a region is asked of
//! [`crate::compile::Tables::decide`] at a bind in it. Exact, but for paths deeper than the kernel reads: those are looked
//! at by example.

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
