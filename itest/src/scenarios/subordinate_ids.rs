//! A user behind a subordinate uid, in a user namespace on the host's network: denials reach them, grants do not.

use super::checks::{Verdict, default, deny, expect_decision};
use crate::harness::probe::{Attempt, Probe, Userns};
use crate::harness::{Needs, SharedInstance, SharedTable, TestEnv};
use anyhow::{Context as _, ensure};
use serde_json::json;

pub(super) const TESTS: SharedTable = &[
    ("subordinate_uid_is_denied", Needs::Nothing, is_denied),
    ("subordinate_uid_deep_inside", Needs::Nothing, deep_inside),
    ("subordinate_uid_has_no_grants", Needs::Nothing, no_grants),
];

const ALICE: u32 = 1000;
/// One of her subordinate ids.
const SUBORDINATE: u32 = 100_000;
/// A group that she had when she made the user namespace.
const STAFF: u32 = 2000;

/// Above 1023, where the kernel denies nobody.
const POLICY: &str = "
version: 1
protect: [\"1-1023\", \"7701-7709\"]
rules:
  - { name: no-alice, action: deny, ports: [7701], users: [1000] }
  - { name: no-staff, action: deny, ports: [7702], groups: [2000] }
  - { name: only-reported, action: deny, ports: [7703], users: [1000], mode: audit }
  - { name: both, action: deny, ports: [7704], users: [1000], groups: [2000], addresses: [127.0.0.0/8] }
  - { name: granted, action: allow, ports: [80], users: [1000] }
  - { name: left, action: kernel, ports: [7705], users: [1000] }
  - { name: to-staff, action: kernel, ports: [7705], groups: [2000] }
  - { name: others, action: deny, ports: [7705] }
  - { name: no-subordinate, action: deny, ports: [7706], users: [100000] }
";

fn inside(port: u16, nested: u32) -> Probe {
    let userns = Userns {
        owner: ALICE,
        group: STAFF,
        nested,
    };
    Probe::user(SUBORDINATE)
        .in_userns(userns)
        .bind(Attempt::tcp(port))
}

fn expect(
    env: &TestEnv,
    instance: &crate::harness::instance::Instance,
    probe: &Probe,
    verdict: Verdict,
) -> anyhow::Result<()> {
    let event = expect_decision(env, instance, probe, verdict)
        .with_context(|| format!("{:?}", probe.userns))?;
    let owner = probe.userns.map(|userns| userns.owner);
    ensure!(event["userns_owner"] == json!(owner), "{event}");
    Ok(())
}

fn is_denied(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        for (port, verdict) in [
            (7701, deny("no-alice")),
            (7702, deny("no-staff")),
            (7703, deny("only-reported").in_audit()),
            (7704, deny("both")),
            (7706, deny("no-subordinate")),
            (7707, default("kernel")),
        ] {
            expect(env, instance, &inside(port, 0), verdict)?;
        }
        // The same uid outside, and another user's.
        for port in [7701, 7702, 7704] {
            let outside = Probe::user(SUBORDINATE).bind(Attempt::tcp(port));
            expect(env, instance, &outside, default("kernel"))?;
            let of_bob = Probe::user(SUBORDINATE)
                .in_userns(Userns {
                    owner: 1001,
                    group: 1001,
                    nested: 0,
                })
                .bind(Attempt::tcp(port));
            expect(env, instance, &of_bob, default("kernel"))?;
        }
    }
    // Where no rule names a group or an address.
    let plain = "{ version: 1, protect: [\"1-1023\", 7701], rules: [
        { name: no-alice, action: deny, ports: [7701], users: [1000] }] }";
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, plain)?;
        expect(env, instance, &inside(7701, 0), deny("no-alice"))?;
        let outside = Probe::user(SUBORDINATE).bind(Attempt::tcp(7701));
        expect(env, instance, &outside, default("kernel"))?;
    }
    Ok(())
}

/// The kernel takes 33 namespaces inside each other.
fn deep_inside(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        for nested in [1, 2, 32] {
            expect(env, instance, &inside(7701, nested), deny("no-alice"))?;
            expect(env, instance, &inside(7704, nested), deny("both"))?;
        }
    }
    Ok(())
}

fn no_grants(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        expect(env, instance, &inside(80, 0), default("kernel"))?;
        expect(env, instance, &inside(7705, 0), deny("others"))?;
        expect(env, instance, &inside(7705, 3), deny("others"))?;
    }
    Ok(())
}
