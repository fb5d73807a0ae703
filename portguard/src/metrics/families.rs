//! The metrics of a status: whether it enforces, and by which policy.

use super::decision_families::decided;
use super::family::{Family, moment, sample, single};
use super::process_families::{process, programs};
use super::rules::MetricsRules;
use crate::status::{Enforcing, PolicyInForce, Reloads, RuleHits, Status};

/// All metrics that have a value.
pub(super) fn families(status: &Status, rules: MetricsRules) -> Vec<Family> {
    let mut all = state(status);
    all.extend(policy(status.policy.as_ref(), &status.rules));
    all.extend(decided(status, rules));
    all.extend(reloads(status.reloads.as_ref()));
    all.push(Family::counter(
        "portguard_reattached",
        "Number of times that missing hooks were re-attached.",
        single(status.reattached),
    ));
    all.push(Family::gauge(
        "portguard_existing_violations",
        "Existing sockets that violate the policy, by the last scan.",
        single(status.violations),
    ));
    all.extend(programs(&status.programs));
    all.extend(status.daemon.iter().flat_map(process));
    all.retain(|family| !family.samples.is_empty());
    all
}

/// Whether it enforces.
fn state(status: &Status) -> Vec<Family> {
    let version = status
        .daemon
        .as_ref()
        .map(|daemon| sample([("version", &daemon.version)], 1));
    let hook = status
        .hook
        .as_ref()
        .map(|hook| sample([("hook", hook.as_str())], 1));
    let state = |state: Enforcing| {
        let here = u64::from(status.enforcing == state);
        sample([("state", state.as_str())], here)
    };
    vec![
        Family::gauge(
            "portguard_build_info",
            "The running version; always 1.",
            version.into_iter().collect(),
        ),
        Family::gauge(
            "portguard_enforcing",
            "1 while binds are denied and granted by the policy, 0 in audit mode or where something is missing.",
            single(u64::from(status.enforcing == Enforcing::Enforce)),
        ),
        Family::gauge(
            "portguard_state",
            "1 for the state that holds, 0 for the others.",
            [
                Enforcing::Enforce,
                Enforcing::Audit,
                Enforcing::Degraded,
                Enforcing::Inactive,
            ]
            .map(state)
            .into(),
        ),
        Family::gauge(
            "portguard_problems",
            "Number of current problems; `portguard status` lists them.",
            single(status.problems.len() as u64),
        ),
        fallback(status),
        Family::gauge(
            "portguard_hook_info",
            "The hook that decides; always 1.",
            hook.into_iter().collect(),
        ),
    ]
}

fn fallback(status: &Status) -> Family {
    let here = |kind| u64::from(status.fallback.as_deref() == Some(kind));
    Family::gauge(
        "portguard_fallback",
        "1 for what is enforced in place of policy files that were broken at the start, 0 otherwise.",
        ["kept", "deny-protected"]
            .map(|kind| sample([("policy", kind)], here(kind)))
            .into(),
    )
}

fn policy(policy: Option<&PolicyInForce>, rules: &[RuleHits]) -> Vec<Family> {
    let Some(policy) = policy else {
        return Vec::new();
    };
    let labels = [
        ("hash", policy.hash.as_str()),
        ("revision", policy.revision.as_str()),
        ("origin", &policy.origin.join(", ")),
        ("mode", policy.mode.as_str()),
    ];
    let named = rules.iter().filter(|rule| rule.name.is_some()).count();
    vec![
        Family::gauge(
            "portguard_policy_info",
            "The policy in force; always 1.",
            vec![sample(labels, 1)],
        ),
        Family::gauge(
            "portguard_policy_rules",
            "Number of its rules, without the default.",
            single(named as u64),
        ),
        Family::gauge(
            "portguard_policy_applied_timestamp_seconds",
            "When that policy came into force, in seconds since the epoch.",
            moment(&policy.since),
        ),
    ]
}

fn reloads(reloads: Option<&Reloads>) -> Vec<Family> {
    let Some(reloads) = reloads else {
        return Vec::new();
    };
    vec![
        Family::counter(
            "portguard_reloads",
            "Reloads by result.",
            vec![
                sample([("result", "success")], reloads.done),
                sample([("result", "failure")], reloads.failed),
            ],
        ),
        Family::gauge(
            "portguard_reload_failed",
            "1 from a failed reload until one succeeds: the previous policy is in force.",
            single(u64::from(reloads.error.is_some())),
        ),
        Family::gauge(
            "portguard_reload_last_success_timestamp_seconds",
            "When the files were last read and put in force, in seconds since the epoch.",
            reloads
                .last_success
                .as_deref()
                .map_or_else(Vec::new, moment),
        ),
    ]
}
