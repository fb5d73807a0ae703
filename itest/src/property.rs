//! `portguard-itest property`: random binds under random policies, by the real portguard on this kernel.
//!
//! What the properties of the tables say of `decide`, this says of everything around it: the parser in
//! the real binary, the maps, the programs, the walk up the cgroups, the credentials. Every errno must
//! be the one that follows from the oracle's verdict, and every reported decision the oracle's.

use crate::daemon::Daemon;
use crate::generate::{GeneratorConfig, case};
use crate::harness::bind_runner::{Cgroups, Powers, attempt, by_kernel};
use crate::oracle::{Answer, Model, OracleBind};
use crate::seed::{cases, runner_from, seed};
use anyhow::{Context, ensure};
use proptest::strategy::{Strategy as _, ValueTree as _};
use serde_json::Value;
use std::time::Duration;

/// Policies tried; each costs a start of portguard.
const POLICIES: u32 = 12;
/// Binds under each.
const BINDS: usize = 160;
/// The users of the binds, none of whom needs to exist.
const USERS: [u32; 4] = [0, 33, 1000, 1001];
/// The cgroup that all others are made in.
const BASE: &str = "portguard-itest.slice";

/// What was seen, so that a run that proves nothing is noticed.
#[derive(Default)]
struct Seen {
    let_through: usize,
    refused: usize,
    events: usize,
}

/// The verb `property`.
pub fn run() -> anyhow::Result<()> {
    run_policies(POLICIES)
}

/// As many policies as are asked for, or as `PORTGUARD_CASES` says.
pub fn run_policies(policies: u32) -> anyhow::Result<()> {
    let seed = seed();
    let policies = cases(policies);
    println!("property: {policies} policies, {BINDS} binds each, PORTGUARD_SEED={seed}");
    let mut runner = runner_from(seed, policies);
    let strategy = case(&GeneratorConfig::real(BASE, &USERS), 3..=12, BINDS);
    let mut seen = Seen::default();
    for number in 1..=policies {
        let (model, binds) = strategy
            .new_tree(&mut runner)
            .map_err(|reason| anyhow::anyhow!("no policy: {reason}"))?
            .current();
        under(&model, &binds, &mut seen).with_context(|| {
            format!(
                "policy {number} of PORTGUARD_SEED={seed}:\n{}",
                model.to_yaml()
            )
        })?;
    }
    println!(
        "property: {} binds let through, {} refused, {} events, all as the oracle says",
        seen.let_through, seen.refused, seen.events
    );
    ensure!(
        seen.let_through > 0 && seen.refused > 0,
        "a run that proves nothing"
    );
    Ok(())
}

fn under(model: &Model, binds: &[OracleBind], seen: &mut Seen) -> anyhow::Result<()> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), model.to_yaml())?;
    let mut cgroups = Cgroups::default();
    let binds = distinct(binds);
    for bind in &binds {
        cgroups.make(&bind.cgroup)?;
    }
    let daemon = Daemon::start(file.path())?;
    let powers = Powers::of(daemon.by_cgroup_hook())?;
    let got = attempt(&binds)?;
    for (i, (bind, got)) in binds.into_iter().zip(got).enumerate() {
        let answer = model.decide(bind);
        let wanted = match &answer {
            Some(answer) if answer.enforced => powers.errno(bind, answer.verdict),
            _ => by_kernel(bind),
        };
        ensure!(
            got == wanted,
            "{bind:?} ended with errno {got}, not {wanted} ({answer:?})"
        );
        *(if got == 0 {
            &mut seen.let_through
        } else {
            &mut seen.refused
        }) += 1;
        if let Some(answer) = answer.filter(|answer| answer.report) {
            let event = next_event(&daemon, i).with_context(|| format!("{bind:?}"))?;
            same(&event, bind, &answer)
                .with_context(|| format!("{bind:?} ({answer:?}) was reported as {event}"))?;
            seen.events += 1;
        }
    }
    Ok(())
}

/// Without binds that look the same in events: equal decisions may be folded into one.
fn distinct(binds: &[OracleBind]) -> Vec<&OracleBind> {
    let mut kept: Vec<&OracleBind> = Vec::with_capacity(binds.len());
    for bind in binds {
        let alike = |other: &&OracleBind| {
            (other.port, other.protocol, other.uid) == (bind.port, bind.protocol, bind.uid)
                && other.cgroup == bind.cgroup
        };
        if !kept.iter().any(alike) {
            kept.push(bind);
        }
    }
    kept
}

/// The event of bind number `i`. Binds of other processes in the same moment are passed over.
pub(crate) fn next_event(daemon: &Daemon, i: usize) -> anyhow::Result<Value> {
    let name = crate::harness::bind_runner::name_of(i);
    loop {
        let event = daemon
            .event(Duration::from_secs(5))
            .with_context(|| format!("{name} made no event"))?;
        if event["comm"] == name {
            return Ok(event);
        }
    }
}

/// Whether an event says what the oracle says.
pub(crate) fn same(event: &Value, bind: &OracleBind, answer: &Answer<'_>) -> anyhow::Result<()> {
    let is = |key: &str, wanted: Value| {
        ensure!(event[key] == wanted, "{key} is not {wanted}");
        anyhow::Ok(())
    };
    is("verdict", answer.verdict.word().into())?;
    is("rule", answer.rule.into())?;
    is("enforced", answer.enforced.into())?;
    is("uid", bind.uid.into())?;
    is("euid", bind.euid.into())?;
    is("protocol", bind.protocol.word().into())?;
    is("cgroup", crate::oracle::slashed(&bind.cgroup).into())
}
