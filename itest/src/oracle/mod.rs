//! The oracle: a policy as the documentation words it, decided by a loop over its rules.
//!
//! It shares no code with portguard: it has its own types, its own YAML writer and its own first-match loop. Where it
//! and the compiled tables agree, two independent readings of the documentation agree.

mod decide;
mod fields;
mod model;
mod yaml;

pub use fields::Net;
pub use model::{
    ADDRESS, Action, EACCES, Logged, Model, ModelRule, OracleBind, OracleDecision, Path, Proto,
    Span, Unreadable,
};
pub use yaml::{rules_yaml, slashed};
