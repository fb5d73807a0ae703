//! What holds of all binds under a policy: lint, diff, who may bind, explanations and policy tests.

pub mod diff;
pub mod explain;
pub mod finding;
pub mod lint;
pub mod policy_tests;
pub mod space;
pub mod who_can_bind;
