//! Cgroups that are deep, long of name, or gone by the time that anybody looks.

use super::Table;
use super::checks::{allow, default, deny, judged};
use crate::harness::bind_runner::Cgroups;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::ensure;

pub(super) const TESTS: Table = &[
    ("deep_cgroups", Needs::Nothing, deep_cgroups),
    ("long_names", Needs::Nothing, long_names),
];

/// A rule holds for all below, however deep; where the path is too deep to be read, whoever dug it has
/// escaped no `deny` and gained no `allow`.
fn deep_cgroups(env: &TestEnv) -> anyhow::Result<()> {
    let top = format!("pgdeep-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: not-here, action: deny, ports: [89], cgroups: [\"/{top}\"] }},
            {{ name: here, action: allow, ports: [90], cgroups: [\"/{top}\"] }},
            {{ name: web, action: allow, ports: [89, 999], users: [33] }}] }}"
    );
    let instance = Instance::start(env, &policy)?;
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
        judged(env, &instance, &bind(89), deny("not-here"))?;
        judged(env, &instance, &bind(90), allowed)?;
    }
    let outside = Probe::user(33).bind(Attempt::tcp(89));
    judged(env, &instance, &outside, allow("web"))?;
    instance.stop().map(|_| ())
}

/// Names are compared whole, up to the longest that the kernel makes.
fn long_names(env: &TestEnv) -> anyhow::Result<()> {
    let name = format!("pglong-{}-{}", std::process::id(), "x".repeat(300));
    let (longest, shorter) = (&name[..255], &name[..254]);
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: longest, action: deny, ports: [89], cgroups: [\"/{longest}\"] }}] }}"
    );
    let instance = Instance::start(env, &policy)?;
    let mut made = Cgroups::default();
    for (name, verdict) in [(longest, deny("longest")), (shorter, default("kernel"))] {
        made.make(&[name.to_owned()])?;
        let probe = Probe::user(0).bind(Attempt::tcp(89));
        let event = judged(env, &instance, &probe.in_cgroup(name), verdict)?;
        ensure!(event["cgroup"] == format!("/{name}"), "{event}");
    }
    instance.stop().map(|_| ())
}
