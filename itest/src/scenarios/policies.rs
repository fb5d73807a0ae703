//! Whole policies by real binds: the shipped ones against their own tests, random ones against the oracle.

use crate::harness::{Kind, Needs, SharedInstance, SharedTable, TestEnv};
use crate::{property, shipped};

pub(super) const TESTS: SharedTable = &[("random_policies", Needs::Nothing, random_policies)];

pub(super) const SHIPPED: SharedTable = &[("shipped_policies", Needs::Nothing, shipped::run)];

fn random_policies(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policies = match env.kind {
        _ if env.repeats_fully() => 12,
        Kind::GuestWithoutLsm => 2,
        _ => 4,
    };
    property::run(env, shared, policies)
}
