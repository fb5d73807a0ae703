//! Whole policies by real binds: the shipped ones against their own tests, random ones against the oracle.

use super::Table;
use crate::harness::{Kind, Needs, TestEnv};
use crate::{property, shipped};

pub(super) const TESTS: Table = &[
    ("shipped_policies", Needs::Nothing, shipped_policies),
    ("random_policies", Needs::Nothing, random_policies),
];

fn shipped_policies(_: &TestEnv) -> anyhow::Result<()> {
    shipped::run()
}

/// Random policies are for the oldest kernel, the newest, and the long-term one that most run; what lies
/// between gets a few, and so does the second guest of each kernel: a policy takes a guest some seconds.
fn random_policies(env: &TestEnv) -> anyhow::Result<()> {
    let between = env.kind == Kind::Guest && matches!(env.kernel, (6, 1) | (6, 18));
    match env.kind {
        Kind::GuestWithoutLsm => property::run_policies(2),
        _ if between => property::run_policies(4),
        _ => property::run(),
    }
}
