//! Deep cgroups and long names.

use super::checks::{allow, default, deny, expect_decision};
use crate::harness::cgroups::Cgroups;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, SharedInstance, SharedTable, TestEnv};
use anyhow::ensure;

pub(super) const TESTS: SharedTable = &[
    ("cgroups_deep", Needs::Nothing, cgroups_deep),
    ("cgroups_long_names", Needs::Nothing, cgroups_long_names),
];

/// A rule holds for all cgroups below, however deep. Where the path is too deep to be read, no `deny` is escaped and
/// no `allow` gained.
fn cgroups_deep(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let top = format!("pgdeep-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: not-here, action: deny, ports: [89], cgroups: [\"/{top}\"] }},
            {{ name: here, action: allow, ports: [90], cgroups: [\"/{top}\"] }},
            {{ name: web, action: allow, ports: [89, 999], users: [33] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let mut made = Cgroups::default();
    for (depth, allowed) in [
        (1, allow("here")),
        (32, allow("here")),
        (33, allow("here")),
        (100, allow("here")),
        (140, default("kernel").because("unresolved_cgroup")),
    ] {
        let mut path = vec![top.clone()];
        path.extend((1..depth).map(|_| "d".to_owned()));
        made.make(&path)?;
        let bind = |port| {
            let probe = Probe::user(33).bind(Attempt::tcp(port));
            probe.in_cgroup(path.join("/"))
        };
        expect_decision(env, instance, &bind(89), deny("not-here"))?;
        expect_decision(env, instance, &bind(90), allowed)?;
    }
    let outside = Probe::user(33).bind(Attempt::tcp(89));
    expect_decision(env, instance, &outside, allow("web"))?;
    Ok(())
}

/// Names are compared in full, up to the longest that the kernel allows.
fn cgroups_long_names(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let name = format!("pglong-{}-{}", std::process::id(), "x".repeat(300));
    let (longest, shorter) = (&name[..255], &name[..254]);
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: longest, action: deny, ports: [89], cgroups: [\"/{longest}\"] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let mut made = Cgroups::default();
    for (name, verdict) in [(longest, deny("longest")), (shorter, default("kernel"))] {
        made.make(&[name.to_owned()])?;
        let probe = Probe::user(0).bind(Attempt::tcp(89));
        let event = expect_decision(env, instance, &probe.in_cgroup(name), verdict)?;
        ensure!(event["cgroup"] == format!("/{name}"), "{event}");
    }
    Ok(())
}
