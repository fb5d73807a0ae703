//! The metrics of a status.

use crate::status::{Decisions, Enforcing, PolicyInForce, Reloads, RuleHits, Status};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A metric with all its label values.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the `_total` of a counter.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: u64,
}

fn sample<const N: usize>(labels: [(&'static str, &str); N], value: u64) -> Sample {
    Sample {
        labels: labels.map(|(name, value)| (name, value.into())).into(),
        value,
    }
}

/// All metrics that have a value.
pub(super) fn families(status: &Status) -> Vec<Family> {
    let mut all = state(status);
    all.extend(policy(status.policy.as_ref()));
    all.extend(decided(status.decisions, &status.rules, &status.dropped));
    all.extend(reloads(status.reloads.as_ref()));
    all.push(Family {
        name: "portguard_reattached",
        help: "Number of times that missing hooks were re-attached.",
        kind: Kind::Counter,
        samples: vec![sample([], status.reattached)],
    });
    all.push(Family {
        name: "portguard_existing_violations",
        help: "Existing sockets that violate the policy, by the last scan.",
        kind: Kind::Gauge,
        samples: status
            .violations
            .map(|n| sample([], n))
            .into_iter()
            .collect(),
    });
    all.retain(|family| !family.samples.is_empty());
    all
}

/// The daemon, and whether it enforces.
fn state(status: &Status) -> Vec<Family> {
    let daemon = status.daemon.as_ref();
    let version = daemon.map(|daemon| sample([("version", &daemon.version)], 1));
    let start = daemon.and_then(|daemon| seconds(&daemon.since));
    let hook = status
        .hook
        .as_ref()
        .map(|hook| sample([("hook", hook.as_str())], 1));
    let state = |state: Enforcing| {
        let here = u64::from(status.enforcing == state);
        sample([("state", state.as_str())], here)
    };
    vec![
        Family {
            name: "portguard_build_info",
            help: "The running version; always 1.",
            kind: Kind::Gauge,
            samples: version.into_iter().collect(),
        },
        Family {
            name: "process_start_time_seconds",
            help: "When the daemon started, in seconds since the epoch.",
            kind: Kind::Gauge,
            samples: start.into_iter().collect(),
        },
        Family {
            name: "portguard_enforcing",
            help: "1 while binds are denied and granted by the policy, 0 in audit mode or where something is missing.",
            kind: Kind::Gauge,
            samples: vec![sample(
                [],
                u64::from(status.enforcing == Enforcing::Enforce),
            )],
        },
        Family {
            name: "portguard_state",
            help: "1 for the state that holds, 0 for the others.",
            kind: Kind::Gauge,
            samples: [
                Enforcing::Enforce,
                Enforcing::Audit,
                Enforcing::Degraded,
                Enforcing::Inactive,
            ]
            .map(state)
            .into(),
        },
        Family {
            name: "portguard_problems",
            help: "Number of problems now; `portguard status` lists them.",
            kind: Kind::Gauge,
            samples: vec![sample([], status.problems.len() as u64)],
        },
        fallback(status),
        Family {
            name: "portguard_hook_info",
            help: "The hook that decides; always 1.",
            kind: Kind::Gauge,
            samples: hook.into_iter().collect(),
        },
    ]
}

fn fallback(status: &Status) -> Family {
    let here = |kind| u64::from(status.fallback.as_deref() == Some(kind));
    Family {
        name: "portguard_fallback",
        help: "1 for what is enforced in place of policy files that were broken at the start, 0 otherwise.",
        kind: Kind::Gauge,
        samples: ["kept", "deny-protected"]
            .map(|kind| sample([("policy", kind)], here(kind)))
            .into(),
    }
}

fn policy(policy: Option<&PolicyInForce>) -> Vec<Family> {
    let Some(policy) = policy else {
        return Vec::new();
    };
    let labels = [
        ("hash", policy.hash.as_str()),
        ("revision", policy.revision.as_str()),
        ("origin", &policy.origin.join(", ")),
        ("mode", policy.mode.as_str()),
    ];
    vec![
        Family {
            name: "portguard_policy_info",
            help: "The policy in force; always 1.",
            kind: Kind::Gauge,
            samples: vec![sample(labels, 1)],
        },
        Family {
            name: "portguard_policy_applied_timestamp_seconds",
            help: "When that policy came into force, in seconds since the epoch.",
            kind: Kind::Gauge,
            samples: seconds(&policy.since).into_iter().collect(),
        },
    ]
}

fn decided(
    decisions: Decisions,
    rules: &[RuleHits],
    dropped: &BTreeMap<String, u64>,
) -> Vec<Family> {
    let by_rule = |rule: &RuleHits| {
        // The default has no name, and no rule has an empty one.
        let name = rule.name.as_deref().unwrap_or_default();
        sample(
            [("rule", name), ("verdict", rule.verdict.as_str())],
            rule.hits,
        )
    };
    let by_reason = |(reason, count): (&String, &u64)| sample([("reason", reason)], *count);
    vec![
        Family {
            name: "portguard_decisions",
            help: "Decisions by verdict, exact even where events were dropped.",
            kind: Kind::Counter,
            samples: vec![
                sample([("verdict", "allow")], decisions.allow),
                sample([("verdict", "deny")], decisions.deny),
                sample([("verdict", "kernel")], decisions.kernel),
            ],
        },
        Family {
            name: "portguard_rule_decisions",
            help: "Decisions by rule since it came into force; the default is the rule without a name.",
            kind: Kind::Counter,
            samples: rules.iter().map(by_rule).collect(),
        },
        Family {
            name: "portguard_events_dropped",
            help: "Decisions whose event was dropped, by reason.",
            kind: Kind::Counter,
            samples: dropped.iter().map(by_reason).collect(),
        },
    ]
}

fn reloads(reloads: Option<&Reloads>) -> Vec<Family> {
    let Some(reloads) = reloads else {
        return Vec::new();
    };
    vec![
        Family {
            name: "portguard_reloads",
            help: "Reloads by result.",
            kind: Kind::Counter,
            samples: vec![
                sample([("result", "success")], reloads.done),
                sample([("result", "failure")], reloads.failed),
            ],
        },
        Family {
            name: "portguard_reload_failed",
            help: "1 from a failed reload until one succeeds: the previous policy is in force.",
            kind: Kind::Gauge,
            samples: vec![sample([], u64::from(reloads.error.is_some()))],
        },
    ]
}

/// An RFC 3339 time as seconds since the epoch.
fn seconds(time: &str) -> Option<Sample> {
    let time: Timestamp = time.parse().ok()?;
    let seconds = u64::try_from(time.as_second()).ok()?;
    Some(sample([], seconds))
}
