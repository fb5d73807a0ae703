//! Where a recorded decision differs from what the policy at hand decides of the same bind.

use super::recorded_events::RecordedDecision;
use portguard_policy::analysis::explain::Explained;
use serde_json::{Value, json};

/// A recorded decision beside that of a policy.
pub(super) struct Difference<'a> {
    recorded: &'a RecordedDecision,
    /// The digest of the policy at hand.
    digest: &'a str,
    verdict: bool,
    rule: bool,
    policy: bool,
}

impl<'a> Difference<'a> {
    pub(super) fn new(
        recorded: &'a RecordedDecision,
        digest: &'a str,
        explained: Option<&Explained<'_>>,
    ) -> Self {
        let verdict = explained.map(|explained| explained.verdict.as_str());
        let rule = explained.and_then(|explained| explained.rule);
        // An event that has no verdict says nothing of the rule either.
        let says = recorded.verdict.is_some();
        Self {
            recorded,
            digest,
            verdict: says && recorded.verdict.as_deref() != verdict,
            rule: says && recorded.rule.as_deref() != rule.map(|rule| rule.name.as_str()),
            policy: recorded
                .policy
                .as_ref()
                .is_some_and(|policy| policy != digest),
        }
    }

    /// A sentence; `None` where nothing differs.
    pub(super) fn as_text(&self) -> Option<String> {
        let digest = self.digest;
        let policy = self.recorded.policy.as_deref().unwrap_or_default();
        if !self.verdict && !self.rule {
            let text = format!("the event is of policy {policy}, and this is {digest}");
            return self.policy.then_some(text);
        }
        let verdict = self.recorded.verdict.as_deref().unwrap_or_default();
        let by = match &self.recorded.rule {
            Some(rule) => format!("rule {rule}"),
            None => "the default".to_owned(),
        };
        let why = match &self.recorded.policy {
            Some(policy) if self.policy => format!("it is of policy {policy}, and this is {digest}"),
            Some(_) => "it is of this policy, so the caller's groups have changed since, or could not be read".to_owned(),
            None => "it may be of another policy".to_owned(),
        };
        Some(format!("but the event says {verdict} by {by}: {why}"))
    }

    pub(super) fn as_object(&self) -> Value {
        let fields = [
            ("verdict", self.verdict),
            ("rule", self.rule),
            ("policy", self.policy),
        ];
        let differs = fields.into_iter().filter(|(_, differs)| *differs);
        json!({
            "verdict": self.recorded.verdict,
            "rule": self.recorded.rule,
            "policy": self.recorded.policy,
            "differs": differs.map(|(field, _)| field).collect::<Vec<_>>(),
        })
    }
}
