//! Whether systemd manages the cgroups here, without which no rule for units matches.

use crate::kernel::{Condition, Severity};
use portguard_policy::analysis::rule_advice::without_systemd;
use portguard_policy::policy::Policy;

/// What `run` and `doctor` say of a policy whose `units` match nothing on this host: the warning, and the fix.
pub(super) fn unmatched_units(policy: &Policy) -> Option<(String, String)> {
    unmatched(policy, &std::fs::read_to_string("/proc/1/cgroup").ok()?)
}

fn unmatched(policy: &Policy, first_process: &str) -> Option<(String, String)> {
    let finding = without_systemd(policy).filter(|_| is_in_root_cgroup(first_process))?;
    Some((finding.to_string(), finding.help().unwrap_or_default()))
}

/// Whether the units that a policy names can match.
pub fn units_condition(policy: &Policy) -> Condition {
    condition(unmatched_units(policy))
}

fn condition(unmatched: Option<(String, String)>) -> Condition {
    let name = "units of the policy can match";
    match unmatched {
        None => Condition {
            name,
            severity: Severity::Good,
            found: "it names none, or systemd manages the cgroups".into(),
            fix: None,
        },
        Some((found, fix)) => Condition {
            name,
            severity: Severity::Warning,
            found,
            fix: Some(fix),
        },
    }
}

/// Whether a text of `/proc/PID/cgroup` has the root of the v2 tree, or no v2 tree. systemd is in `/init.scope`.
fn is_in_root_cgroup(text: &str) -> bool {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.is_none_or(|path| path == "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use portguard_policy::policy::{SystemNames, parse};
    use std::path::Path;

    #[test]
    fn root_cgroup_is_that_of_the_v2_tree() {
        assert!(is_in_root_cgroup("0::/\n") && is_in_root_cgroup("9:name=systemd:/\n0::/\n"));
        assert!(is_in_root_cgroup("1:name=systemd:/init.scope\n"));
        // From another cgroup namespace, the host's is above.
        assert!(
            !is_in_root_cgroup("0::/init.scope\n") && !is_in_root_cgroup("0::/../init.scope\n")
        );
    }

    #[test]
    fn doctor_warns_of_units_that_cannot_match() {
        let text = "version: 1\nrules: [{ name: web, action: allow, units: [nginx.service] }]\n";
        let loaded = parse(Path::new("p.yaml"), text, &SystemNames::LOCAL);
        let policy = loaded.unwrap_or_else(|error| panic!("{error}")).policy;
        let found = condition(unmatched(&policy, "0::/\n"));
        assert!(matches!(found.severity, Severity::Warning));
        assert_eq!(found.fix.as_deref(), Some("use `users` or `cgroups`"));
        assert!(found.found.contains("rule `web`"), "{}", found.found);
        for good in [
            condition(unmatched(&policy, "0::/init.scope\n")),
            condition(unmatched(&Policy::default(), "0::/\n")),
        ] {
            assert!(matches!(good.severity, Severity::Good));
        }
    }
}
