//! portguard says who may bind which port on Linux.
//!
//! The way of the data: YAML -> [`policy`] -> [`compile`] -> `kernel` (maps, programs) -> events ->
//! sinks. Dependencies point in that order; only `kernel` names aya.

pub mod compile;
pub mod policy;
pub mod kernel;
