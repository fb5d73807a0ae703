//! Findings about single rules: what they do not do although they look so, on this host or on any.

use crate::analysis::finding::{Finding, FindingKind};
use crate::local_ports::LocalPorts;
use crate::policy::{Policy, Rule, UnitPattern, merged, ranges_text};
use portguard_common::Verdict;
use std::ops::RangeInclusive;
use wildmatch::WildMatch;

/// The host that a policy is for.
pub struct Host {
    /// Ports that its kernel assigns without a bind; `None` where they are not checked.
    pub local_ports: Option<LocalPorts>,
    /// Whether its kernel can grant a port without the capability.
    pub grants: bool,
    /// Whether it has the units of Debian.
    pub debian: bool,
}

impl Host {
    /// A host about which no policy is warned.
    pub const ANY: Self = Self {
        local_ports: None,
        grants: true,
        debian: false,
    };
}

/// Units of Debian and its relatives that only start instances of a template, which have the processes.
const STARTERS: [&str; 4] = ["postfix", "postgresql", "openvpn", "tor"];

/// Adds what there is to say about each rule.
pub(crate) fn of_rules(policy: &Policy, host: &Host, found: &mut Vec<Finding>) {
    let protect = merged(&policy.protect);
    let all = protect == [1..=u16::MAX];
    for rule in &policy.rules {
        let mut add = |kind| {
            found.push(Finding {
                location: rule.location.clone(),
                kind,
            });
        };
        let name = || rule.name.clone();
        if allows_everybody(rule) {
            add(FindingKind::AllowsEverybody { rule: name() });
        }
        if !all && denies_cgroups_all_ports(rule) {
            add(FindingKind::ProtectedOnly {
                rule: name(),
                protect: ranges_text(&protect),
            });
        }
        if let Some(ports) = unprotected(rule, &protect) {
            add(FindingKind::PartlyUnprotected {
                rule: name(),
                ports,
            });
        }
        if host.debian
            && let Some((unit, real)) = starter(rule)
        {
            add(FindingKind::UnitOfUnits {
                rule: name(),
                unit,
                real,
            });
        }
    }
}

/// The first rule for units: where systemd does not manage the cgroups it matches nothing. Not among the findings of
/// `of_rules`, since a policy is often checked on another machine than it is for.
#[must_use]
pub fn without_systemd(policy: &Policy) -> Option<Finding> {
    let mut rules = policy.rules.iter();
    let first = rules.find(|rule| rule.units.is_some())?;
    Some(Finding {
        location: first.location.clone(),
        kind: FindingKind::NoSystemd {
            rule: first.name.clone(),
        },
    })
}

/// Whether a rule allows, and not only reports, and names nobody.
fn allows_everybody(rule: &Rule) -> bool {
    rule.action == Verdict::Allow
        && !rule.audit
        && rule.users.is_none()
        && rule.groups.is_none()
        && rule.cgroups.is_none()
        && rule.units.is_none()
}

/// Whether a rule looks as if some cgroups may bind nothing.
fn denies_cgroups_all_ports(rule: &Rule) -> bool {
    rule.action == Verdict::Deny
        && rule.ports.is_none()
        && (rule.cgroups.is_some() || rule.units.is_some())
}

/// The first port that the kernel lets everybody bind, where no sysctl changes that.
const PRIVILEGED_END: u16 = 1024;

/// The most entries that a finding lists.
const LISTED: usize = 8;

/// The entries of a rule's `ports` that it looks as if it denied or granted, and of which nothing is protected; `None` where there are none, or no others.
fn unprotected(rule: &Rule, protect: &[RangeInclusive<u16>]) -> Option<String> {
    let ports = rule.ports.as_deref()?;
    let is_decided = |ports: &RangeInclusive<u16>| {
        let mut both = protect.iter();
        both.any(|range| range.start() <= ports.end() && ports.start() <= range.end())
    };
    let (decided, others): (Vec<_>, Vec<_>) = ports.iter().cloned().partition(is_decided);
    if decided.is_empty() {
        return None;
    }
    // Ports that everybody may bind need no grant.
    let others: Vec<_> = (others.into_iter())
        .filter(|ports| match rule.action {
            Verdict::Deny => true,
            Verdict::Allow => *ports.start() < PRIVILEGED_END,
            Verdict::Kernel => false,
        })
        .collect();
    if others.is_empty() {
        return None;
    }
    let text = ranges_text(others.get(..LISTED).unwrap_or(&others));
    Some(match others.len().saturating_sub(LISTED) {
        0 => text,
        more => format!("{text} and {more} more"),
    })
}

/// A unit that a rule names and that has no process, and the one that has; `None` where the rule has both.
fn starter(rule: &Rule) -> Option<(String, String)> {
    let units = rule.units.as_ref()?;
    let has = |unit: &str| {
        let mut units = units.iter();
        units.any(|UnitPattern(pattern)| WildMatch::new(pattern).matches(unit))
    };
    STARTERS.iter().find_map(|stem| {
        let unit = format!("{stem}.service");
        let named = units.iter().any(|UnitPattern(name)| *name == unit);
        let example = format!("{stem}@-.service");
        (named && !has(&example)).then(|| (unit, format!("{stem}@*.service")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{StaticNames, parse};

    #[test]
    fn first_rule_for_units_matches_nothing_without_systemd() {
        let finding = |text: &str| {
            let loaded = parse("p.yaml".as_ref(), text, &StaticNames::default());
            let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
            without_systemd(&loaded.policy)
        };
        let text = "version: 1\nrules:\n- { name: a, action: deny, ports: [80] }\n\
                    - { name: b, action: deny, ports: [80], units: [b.service] }\n";
        let found = finding(text).expect("a rule for units");
        assert_eq!(
            found.to_string(),
            "rule `b` matches nothing here: process 1 is in the root cgroup, so systemd keeps no process in the cgroup of a unit"
        );
        assert_eq!(found.help().as_deref(), Some("use `users` or `cgroups`"));
        assert_eq!(finding("version: 1\n"), None);
    }
}
