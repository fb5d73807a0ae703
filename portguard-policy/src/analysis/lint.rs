//! Findings that need the whole policy or the host: unreachable rules, partially shadowed rules, and what the
//! host cannot do.
//!
//! Rules are compared over the whole space of binds, within a budget: a finding may be missing where thousands
//! of rules cross each other, but none is wrong.

use crate::analysis::explain::first_mismatch;
use crate::analysis::finding::{Finding, FindingKind};
use crate::analysis::rule_advice;
pub use crate::analysis::rule_advice::Host;
use crate::analysis::space::{
    BindSpace, Budget, Effect, Fields, PortGroup, Region, SpaceError, Users, callers_text,
};
use crate::compile::Bind;
use crate::policy::{Field, Loaded, Policy, Rule, merged, ranges_text};
use portguard_common::Verdict;
use std::ops::RangeInclusive;

/// Steps of cutting for all rules together: less than a second.
const BUDGET: usize = 60_000_000;

/// Steps for one rule: one that takes more counts as reachable and leaves the rest to the others.
const BUDGET_OF_ONE: usize = 300_000;

/// Adds the findings to the warnings of the files.
pub fn lint(loaded: &mut Loaded, host: &Host) {
    for finding in findings(&loaded.policy, host) {
        loaded.add(finding.to_diagnostic());
    }
}

/// All findings about a policy: those of its rules in file order, then those of the host.
#[must_use]
pub fn findings(policy: &Policy, host: &Host) -> Vec<Finding> {
    let mut found = Vec::new();
    // That a policy does not compile is reported where it is compiled.
    if let Ok(space) = BindSpace::new(&[policy]) {
        of_rules(&space, policy, &mut found);
    }
    rule_advice::of_rules(policy, host, &mut found);
    of_host(policy, host, &mut found);
    found
}

fn of_host(policy: &Policy, host: &Host, found: &mut Vec<Finding>) {
    let exposed = host.local_ports.as_ref();
    // At the first list that has such ports; all of them are named there.
    let mut lists = policy.setting_locations.protect.iter();
    let location = exposed.and_then(|ports| {
        let list = lists.find(|(_, list)| ports.exposed(list).is_some());
        list.map(|(location, _)| location)
    });
    let exposed = exposed.and_then(|ports| ports.exposed(&policy.protect));
    if let (Some(exposed), Some(location)) = (exposed, location) {
        found.push(Finding {
            location: location.clone(),
            kind: FindingKind::LocalPorts(exposed),
        });
    }
    let mut rules = policy.rules.iter();
    let allow = rules.find(|rule| rule.action == Verdict::Allow);
    if let (false, Some(rule)) = (host.grants, allow) {
        found.push(Finding {
            location: rule.location.clone(),
            kind: FindingKind::NoGrants,
        });
    }
}

fn of_rules(space: &BindSpace<'_>, policy: &Policy, found: &mut Vec<Finding>) {
    let groups = space.port_groups();
    // The groups of ports that each rule matches.
    let mut of_rule: Vec<Vec<&PortGroup>> = vec![Vec::new(); policy.rules.len()];
    for group in &groups {
        for rule in group.rules.iter().flatten().flat_map(|rules| rules.iter()) {
            of_rule[*rule].push(group);
        }
    }
    let mut budget = Budget(BUDGET);
    for (number, rule) in policy.rules.iter().enumerate() {
        // Its names are unknown, of which the file has a warning already.
        if rule.matches_nobody() {
            continue;
        }
        let mut of_one = budget.part(BUDGET_OF_ONE);
        let before = of_one.0;
        let reachability = reachability(space, number, &of_rule[number], &mut of_one);
        budget.0 -= before - of_one.0;
        let name = || rule.name.clone();
        let kind = match reachability {
            Ok(Reachability::Unprotected) => Some(FindingKind::Unprotected { rule: name() }),
            Ok(Reachability::Shadowed(last)) => Some(FindingKind::Shadowed {
                rule: name(),
                last: policy.rules[last].name.clone(),
            }),
            Ok(Reachability::Decides(overlaps)) => partially_shadowed(space, rule, &overlaps),
            // Too complex within the budget.
            Err(_) => None,
        };
        found.extend(kind.map(|kind| Finding {
            location: rule.location.clone(),
            kind,
        }));
    }
}

/// Whether a rule ever decides.
enum Reachability<'s, 'a> {
    /// Never: its ports are not protected.
    Unprotected,
    /// Never: earlier rules match all its binds, this one the last of them.
    Shadowed(usize),
    /// It decides some binds; earlier rules match these of its regions.
    Decides(Vec<(usize, &'s PortGroup, Region<'a>)>),
}

/// Overlaps with earlier rules to consider: nobody reads more findings about one rule.
const OVERLAPS: usize = 16;

fn reachability<'s, 'a>(
    space: &BindSpace<'a>,
    number: usize,
    groups: &[&'s PortGroup],
    budget: &mut Budget,
) -> Result<Reachability<'s, 'a>, SpaceError> {
    let mut found = Reachability::Unprotected;
    let mut overlaps: Vec<(usize, &'s PortGroup, Region<'a>)> = Vec::new();
    for &group in groups {
        let Some(Some(rules)) = group.rules.first() else {
            continue;
        };
        let earlier: Vec<usize> = rules
            .iter()
            .copied()
            .take_while(|rule| *rule < number)
            .collect();
        let mine = space.split(space.whole(), 0, &[number], budget)?;
        let mine = mine.into_iter().filter(|(rule, _)| rule.is_some());
        let mine: Vec<Region<'a>> = mine.flat_map(|(_, regions)| regions).collect();
        let split = space.split(mine, 0, &earlier, budget)?;
        for (by, regions) in split {
            match (by, &found) {
                (None, _) => found = Reachability::Decides(Vec::new()),
                (Some(by), Reachability::Unprotected) => found = Reachability::Shadowed(by),
                (Some(by), Reachability::Shadowed(last)) => {
                    found = Reachability::Shadowed(by.max(*last))
                }
                (Some(_), Reachability::Decides(_)) => {}
            }
            let known = |by: usize| overlaps.iter().any(|(known, ..)| *known == by);
            let plain = regions
                .into_iter()
                .find(|region| matches!(region.users, Users::Same(_)));
            if let (Some(by), Some(region)) = (by, plain)
                && overlaps.len() < OVERLAPS
                && !known(by)
            {
                overlaps.push((by, group, region));
            }
        }
        // The other groups matter only while the rule may be unreachable.
        if matches!(found, Reachability::Decides(_)) && !overlaps.is_empty() {
            break;
        }
    }
    if let Reachability::Decides(decided) = &mut found {
        *decided = overlaps;
    }
    Ok(found)
}

/// The finding about the first overlap that is worth one. A narrow rule before a wide one is how exceptions are
/// written, and a test of such a bind shows that the overlap is intended.
fn partially_shadowed(
    space: &BindSpace<'_>,
    rule: &Rule,
    overlaps: &[(usize, &PortGroup, Region<'_>)],
) -> Option<FindingKind> {
    let policy = space.views.first()?.policy;
    let (earlier, region) = overlaps.iter().find_map(|(by, _, region)| {
        let earlier = policy.rules.get(*by)?;
        let differs = earlier.action != rule.action || earlier.audit != rule.audit;
        // What is denied first is denied on purpose; with which errno, perhaps not.
        let denies = |rule: &Rule| rule.action == Verdict::Deny && !rule.audit;
        let other_errno = denies(rule) && earlier.errno != rule.errno;
        let differs = if denies(earlier) {
            other_errno
        } else {
            differs
        };
        let worth = differs && !space.is_within(earlier, rule);
        (worth && !is_intended(policy, earlier, rule)).then_some((earlier, region))
    })?;
    let ports = ranges_text(&shared_ports(policy, earlier, rule));
    let mut binds = vec![(Field::Ports, ports)];
    let fields = Fields::of(region);
    let users = callers_text(&space.callers(&region.users), &policy.given);
    binds.extend(
        [
            (Field::Users, users),
            (Field::Groups, fields.groups),
            (Field::Cgroups, fields.cgroups),
            (Field::Addresses, fields.addresses),
        ]
        .into_iter()
        .filter(|(_, values)| values != "any"),
    );
    Some(FindingKind::PartiallyShadowed {
        rule: rule.name.clone(),
        earlier: earlier.name.clone(),
        effect: Effect::new(earlier.action, !earlier.audit, earlier.errno),
        denies: rule.action == Verdict::Deny,
        binds,
    })
}

/// Whether a test expects the earlier rule to decide a bind that the later one matches too.
fn is_intended(policy: &Policy, earlier: &Rule, later: &Rule) -> bool {
    let mut tests = policy.tests.iter();
    tests.any(|test| {
        let cgroup: Vec<&str> = test.cgroup.iter().map(String::as_str).collect();
        test.rule.as_ref() == Some(&earlier.name)
            && test.expect == earlier.action
            && matches!(
                first_mismatch(policy, later, &Bind::of_test(test, &cgroup)),
                Ok(None)
            )
    })
}

/// The protected ports that both rules match in any protocol.
fn shared_ports(policy: &Policy, one: &Rule, other: &Rule) -> Vec<RangeInclusive<u16>> {
    let has = |rule: &Rule, port: u16| {
        let ports = rule.ports.as_ref();
        ports.is_none_or(|ports| ports.iter().any(|range| range.contains(&port)))
    };
    let both = (policy.protect.iter().cloned().flatten())
        .filter(|port| has(one, *port) && has(other, *port));
    merged(&both.map(|port| port..=port).collect::<Vec<_>>())
}
