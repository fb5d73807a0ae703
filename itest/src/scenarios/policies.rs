//! Whole policies by real binds: the shipped ones against their own tests, random ones against the oracle.

use super::Table;
use crate::harness::{Kind, Needs, World};
use crate::{property, shipped};

pub(super) const TESTS: Table = &[
    ("shipped_policies", Needs::Nothing, shipped_policies),
    ("random_policies", Needs::Nothing, random_policies),
];

fn shipped_policies(_: &World) -> anyhow::Result<()> {
    shipped::run()
}

/// Fewer where a guest is booted a second time for the fallback: each policy takes it some seconds.
fn random_policies(world: &World) -> anyhow::Result<()> {
    if world.kind == Kind::GuestWithoutLsm {
        return property::run_policies(2);
    }
    property::run()
}
