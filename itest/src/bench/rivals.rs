//! What portguard is compared with: an empty LSM program, and Landlock.

use super::measure::{OUTSIDE, PROTECTED, cost};
use crate::harness::foreign_object;
use anyhow::{Context, bail, ensure};
use aya::Btf;
use aya::programs::Lsm;
use landlock::{
    AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use std::process::Command;

/// The cost of a bind, protected and not, with an empty LSM program attached.
pub(super) fn empty_program() -> anyhow::Result<(f64, f64)> {
    let mut object = foreign_object::load()?;
    let program: &mut Lsm = object
        .program_mut("socket_bind")
        .context("the object has no program socket_bind")?
        .try_into()?;
    program.load("socket_bind", &Btf::from_sys_fs()?)?;
    program.attach()?;
    Ok((cost(PROTECTED, Ok(()))?, cost(OUTSIDE, Ok(()))?))
}

/// The cost of a bind in a Landlock domain that allows this many ports.
///
/// A process cannot leave a domain, so a child enters it and prints the figure.
pub(super) fn landlock(ports: u16) -> anyhow::Result<f64> {
    let output = Command::new("/proc/self/exe")
        .args(["bench", "landlock", &ports.to_string()])
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Enters the domain and prints the cost of a bind in it.
pub(super) fn in_landlock(ports: u16) -> anyhow::Result<()> {
    let first = if ports == 1 { PROTECTED } else { 1 };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::BindTcp)?
        .create()?;
    for port in first..first + ports {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    let status = ruleset.restrict_self()?.ruleset;
    ensure!(
        status == RulesetStatus::FullyEnforced,
        "Landlock does not enforce the domain"
    );
    println!("{}", cost(PROTECTED, Ok(()))?);
    Ok(())
}
