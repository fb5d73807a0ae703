//! The metrics of decisions and events.

use super::family::{Family, Sample, sample, single};
use super::rules::MetricsRules;
use crate::status::{RuleHits, Status};
use portguard_policy::policy::Mode;

/// Decisions by verdict and by rule, and what became of their events.
pub(super) fn decided(status: &Status, rules: MetricsRules) -> Vec<Family> {
    let decisions = status.decisions;
    let by_reason = |(reason, count): (&String, &u64)| sample([("reason", reason)], *count);
    vec![
        Family::counter(
            "portguard_decisions",
            "Decisions by verdict, exact even where events were dropped.",
            vec![
                sample([("verdict", "allow")], decisions.allow),
                sample([("verdict", "deny")], decisions.deny),
                sample([("verdict", "kernel")], decisions.kernel),
            ],
        ),
        Family::counter(
            "portguard_rule_decisions",
            "Decisions by rule since it came into force; the default is the rule without a name.",
            by_rule(status, rules),
        ),
        Family::counter(
            "portguard_events",
            "Events that the daemon reported; one may stand for several decisions.",
            single(status.events),
        ),
        Family::counter(
            "portguard_events_dropped",
            "Decisions whose event was dropped, by reason.",
            status.dropped.iter().map(by_reason).collect(),
        ),
    ]
}

fn by_rule(status: &Status, rules: MetricsRules) -> Vec<Sample> {
    let audits = status
        .policy
        .as_ref()
        .is_some_and(|policy| policy.mode == Mode::Audit);
    let shown = status.rules.iter().filter(|rule| match rules {
        MetricsRules::All => true,
        MetricsRules::Used => rule.hits > 0,
        MetricsRules::None => false,
    });
    let sample = |rule: &RuleHits| {
        // The default has no name, and no rule has an empty one.
        let name = rule.name.as_deref().unwrap_or_default();
        let enforced = if audits || rule.audit {
            "false"
        } else {
            "true"
        };
        let verdict = rule.verdict.as_str();
        sample(
            [("rule", name), ("verdict", verdict), ("enforced", enforced)],
            rule.hits,
        )
    };
    shown.map(sample).collect()
}
