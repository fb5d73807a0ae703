//! Questions about all binds of a policy: lint, diff and who can bind; explanations and tests of single binds.

pub mod diff;
pub mod explain;
pub mod finding;
pub mod lint;
pub mod policy_tests;
pub mod rule_advice;
pub mod space;
pub mod summary;
pub mod who_can_bind;
