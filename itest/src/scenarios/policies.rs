//! Whole policies by real binds: the shipped ones against their own tests, random ones against the oracle.

use super::Table;
use crate::harness::{Needs, World};
use crate::{property, shipped};

pub(super) const TESTS: Table = &[
    ("shipped_policies", Needs::Nothing, shipped_policies),
    ("random_policies", Needs::Nothing, random_policies),
];

fn shipped_policies(_: &World) -> anyhow::Result<()> {
    shipped::run()
}

fn random_policies(_: &World) -> anyhow::Result<()> {
    property::run()
}
