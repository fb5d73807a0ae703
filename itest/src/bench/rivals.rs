//! What portguard is compared with: empty programs, Landlock, and systemd's `SocketBindAllow=`.

use super::measure::{OUTSIDE, PROTECTED, become_threaded, cost};
use crate::harness::cgroups::cgroup_root;
use crate::harness::foreign_object;
use anyhow::{Context, bail, ensure};
use aya::maps::Array;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Lsm};
use aya::{Btf, Ebpf};
use landlock::{
    AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use std::fs::File;
use std::process::Command;

/// Empty programs that are attached while a figure is measured.
#[derive(Clone, Copy)]
pub(super) enum Empty {
    Lsm,
    Cgroup,
    Both,
}

/// What a bind costs, protected and not.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    pub(super) protected: f64,
    pub(super) outside: f64,
}

impl Cost {
    /// Measures it.
    pub(super) fn measure() -> anyhow::Result<Self> {
        Ok(Self {
            protected: cost(PROTECTED, Ok(()))?,
            outside: cost(OUTSIDE, Ok(()))?,
        })
    }
}

/// The cost of a bind with empty programs attached.
pub(super) fn empty_programs(which: Empty) -> anyhow::Result<Cost> {
    let mut object = foreign_object::load()?;
    if matches!(which, Empty::Lsm | Empty::Both) {
        let program: &mut Lsm = object
            .program_mut("socket_bind")
            .context("the object has no program socket_bind")?
            .try_into()?;
        program.load("socket_bind", &Btf::from_sys_fs()?)?;
        program.attach()?;
    }
    if matches!(which, Empty::Cgroup | Empty::Both) {
        attach_to_root(&mut object, "pass")?;
    }
    Cost::measure()
}

/// Attaches a program to the root of the cgroup tree.
fn attach_to_root(object: &mut Ebpf, name: &str) -> anyhow::Result<()> {
    let program: &mut CgroupSockAddr = object
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()?;
    program.load()?;
    program.attach(File::open(cgroup_root()?)?, CgroupAttachMode::Single)?;
    Ok(())
}

/// The cost of a bind under systemd's program with this many rules, of which the last allows the port.
pub(super) fn systemd(rules: u16) -> anyhow::Result<f64> {
    let mut object = foreign_object::load_with_entries("SOCKET_BIND_RULES", rules.into())?;
    let map = object.map_mut("SOCKET_BIND_RULES");
    let mut map: Array<_, [u16; 6]> = map.context("no map SOCKET_BIND_RULES")?.try_into()?;
    for number in 0..rules {
        let port = if number + 1 == rules {
            PROTECTED
        } else {
            10_000 + number
        };
        // `struct socket_bind_rule`: address_family, action (1 allows), nr_ports, port_min.
        map.set(number.into(), [0, 0, 1, 0, 1, port], 0)?;
    }
    attach_to_root(&mut object, "systemd_bind")?;
    cost(PROTECTED, Ok(()))
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
    become_threaded();
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
