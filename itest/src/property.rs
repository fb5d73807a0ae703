//! Random policies and real binds: every errno and every event must be the one that follows from the oracle.

use crate::generate::{GeneratorConfig, case};
use crate::harness::cgroups::Cgroups;
use crate::harness::env::by_kernel;
use crate::harness::oracle_probe::{is_expected, raw_errnos};
use crate::harness::probe::Probe;
use crate::harness::{SharedInstance, TestEnv};
use crate::oracle::{Action, Model, OracleBind, OracleDecision};
use crate::seed::{cases, runner_from, seed};
use anyhow::{Context as _, bail, ensure};
use proptest::strategy::{Strategy as _, ValueTree as _};
use serde_json::Value;

const BINDS_PER_POLICY: usize = 160;
/// The users of the binds, none of whom needs to exist.
const USERS: [u32; 4] = [0, 33, 1000, 1001];
/// The cgroup that all others are made in.
const BASE: &str = "portguard-itest.slice";
/// In force before and after a random policy, which may report nothing.
const BETWEEN: &str = "{ version: 1 }";

/// What happened, so that a run that proves nothing fails.
#[derive(Default)]
struct Tally {
    let_through: usize,
    refused: usize,
    events: usize,
}

/// As many policies as `PORTGUARD_CASES` says, or this many.
pub(crate) fn run(env: &TestEnv, shared: &mut SharedInstance, policies: u32) -> anyhow::Result<()> {
    let seed = seed();
    let policies = cases(policies);
    println!("property: {policies} policies, {BINDS_PER_POLICY} binds each, PORTGUARD_SEED={seed}");
    let mut runner = runner_from(seed, policies);
    let strategy = case(
        &GeneratorConfig::real(BASE, &USERS),
        3..=12,
        BINDS_PER_POLICY,
    );
    let mut tally = Tally::default();
    for number in 1..=policies {
        let (model, binds) = strategy
            .new_tree(&mut runner)
            .map_err(|reason| anyhow::anyhow!("no policy: {reason}"))?
            .current();
        check(env, shared, &model, &binds, &mut tally).with_context(|| {
            format!(
                "policy {number} of PORTGUARD_SEED={seed}:\n{}",
                model.to_yaml()
            )
        })?;
    }
    println!(
        "property: {} binds let through, {} refused, {} events, all as the oracle says",
        tally.let_through, tally.refused, tally.events
    );
    ensure!(
        tally.let_through > 0 && tally.refused > 0,
        "all binds ended the same"
    );
    Ok(())
}

fn check(
    env: &TestEnv,
    shared: &mut SharedInstance,
    model: &Model,
    binds: &[OracleBind],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut cgroups = Cgroups::default();
    for bind in binds {
        cgroups.make(&bind.cgroup)?;
    }
    let probes: Vec<Probe> = binds.iter().map(Probe::from).collect();
    let (actual, events) = observe(env, shared, &model.to_yaml(), &probes)?;
    for ((bind, probe), actual) in binds.iter().zip(&probes).zip(actual) {
        let decision = model.decide(bind);
        let by_kernel = by_kernel(bind.euid, bind.port);
        let expected = match &decision {
            Some(decision) if decision.enforced => expected_errno(env, decision, by_kernel),
            _ => by_kernel,
        };
        ensure!(
            is_expected(actual, expected),
            "{bind:?} ended with errno {actual}, not {expected} ({decision:?})"
        );
        *(if expected == 0 {
            &mut tally.let_through
        } else {
            &mut tally.refused
        }) += 1;
        let reported = decision.filter(|decision| decision.report);
        check_event(&events, probe, bind, reported.as_ref())?;
        tally.events += usize::from(reported.is_some());
    }
    Ok(())
}

/// What an enforced decision ends a bind with.
fn expected_errno(env: &TestEnv, decision: &OracleDecision<'_>, by_kernel: i32) -> i32 {
    let hook = env.auto_hook();
    match decision.verdict {
        Action::Deny => env.denial_with(hook, decision.errno),
        verdict => env.enforced(hook, verdict.name(), true, by_kernel),
    }
}

/// Makes the binds of the probes under a policy: the errnos, and the events of that time.
pub(crate) fn observe(
    env: &TestEnv,
    shared: &mut SharedInstance,
    policy: &str,
    probes: &[Probe],
) -> anyhow::Result<(Vec<i32>, Vec<Value>)> {
    let instance = shared.enforce(env, BETWEEN)?;
    instance.reload(policy)?;
    let errnos = raw_errnos(probes)?;
    instance.reload(BETWEEN)?;
    Ok((errnos, instance.events()?))
}

/// A reported bind has one event, which says what the oracle says; any other has none.
pub(crate) fn check_event(
    events: &[Value],
    probe: &Probe,
    bind: &OracleBind,
    expected: Option<&OracleDecision<'_>>,
) -> anyhow::Result<()> {
    let comm = String::from_utf8_lossy(&probe.comm);
    let mut own = events.iter().filter(|event| event["comm"] == *comm);
    match (own.next(), own.next(), expected) {
        (None, _, None) => Ok(()),
        (Some(event), None, Some(decision)) => matches_decision(event, bind, decision)
            .with_context(|| format!("{bind:?} ({decision:?}) was reported as {event}")),
        (first, second, _) => bail!("{bind:?} ({expected:?}) has events {first:?} {second:?}"),
    }
}

fn matches_decision(
    event: &Value,
    bind: &OracleBind,
    decision: &OracleDecision<'_>,
) -> anyhow::Result<()> {
    for (key, expected) in [
        ("verdict", Value::from(decision.verdict.name())),
        ("rule", decision.rule.into()),
        ("enforced", decision.enforced.into()),
        ("uid", bind.uid.into()),
        ("euid", bind.euid.into()),
        ("gid", bind.gid.into()),
        ("egid", bind.egid.into()),
        ("protocol", bind.protocol.name().into()),
        ("cgroup", crate::oracle::slashed(&bind.cgroup).into()),
    ] {
        ensure!(event[key] == expected, "{key} is not {expected}");
    }
    Ok(())
}
