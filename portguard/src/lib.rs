//! portguard says who may bind which port on Linux.
//!
//! The way of the data: YAML -> [`policy`] -> [`compile`] -> [`kernel`] (maps, programs) -> [`event`]
//! -> [`sink`]; [`daemon`] wires it, [`cli`] is what people see. Dependencies point in that order; only
//! [`kernel`] names aya. What holds of all binds is asked of [`space`]: by [`lint`], [`mod@diff`] and [`holders`];
//! [`written`] is the way back from a policy to YAML, for [`suggest`] too.

pub mod cgroups;
pub mod cli;
pub mod compile;
pub mod control;
pub mod daemon;
pub mod diff;
pub mod escape;
pub mod event;
pub mod expectations;
pub mod explain;
pub mod holders;
pub mod inventory;
pub mod kernel;
pub mod lint;
pub mod memory;
pub mod metrics;
pub mod policy;
pub mod say;
pub mod sink;
pub mod source;
pub mod space;
pub mod status;
pub mod suggest;
pub mod systemd;
pub mod watch;
pub mod written;
