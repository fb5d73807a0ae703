//! Whole policies by real binds: the shipped ones against their own tests, random ones against the oracle.

use crate::harness::{Kind, Needs, SharedInstance, SharedTable, TestEnv};
use crate::{property, shipped};

pub(super) const TESTS: SharedTable = &[
    ("shipped_policies", Needs::Nothing, shipped::run),
    ("random_policies", Needs::Nothing, random_policies),
];

/// The guest of 6.12 tries twelve policies; the others fewer.
fn random_policies(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policies = match (env.kind, env.kernel) {
        (Kind::GuestWithoutLsm, _) => 2,
        (Kind::Guest, kernel) if kernel != (6, 12) => 4,
        _ => 12,
    };
    property::run(env, shared, policies)
}
