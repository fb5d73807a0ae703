//! What a policy's author should look at, beyond what one file can tell: rules that never decide, rules that
//! lose a part to another, and what this host makes of it.
//!
//! Rules are held against each other over the whole space of binds. That has a budget: a warning may be
//! missing where thousands of rules cross each other, but none is wrong.

use crate::analysis::explain::first_mismatch;
use crate::analysis::space::{
    BindSpace, Budget, Fields, PortGroup, Region, SpaceError, Users, callers_text,
};
use crate::compile::Bind;
use crate::local_ports::LocalPorts;
use crate::policy::{Diagnostic, Loaded, Location, Policy, Rule, Severity, merged, ranges_text};
use portguard_common::Verdict;
use std::ops::RangeInclusive;

/// Steps of cutting for all rules together: less than a second.
const BUDGET: usize = 60_000_000;

/// Steps for one rule: one that takes more is taken to decide, and leaves the rest to the others.
const BUDGET_OF_ONE: usize = 300_000;

/// What is known of the host that a policy is for.
pub struct Host {
    /// Ports that its kernel hands out by itself; `None` where that is not looked at.
    pub local_ports: Option<LocalPorts>,
    /// Whether its kernel can spare a program the capability check.
    pub grants: bool,
}

impl Host {
    /// One that all policies fit.
    pub const ANY: Self = Self {
        local_ports: None,
        grants: true,
    };
}

/// Adds warnings to those of the files.
pub fn lint(loaded: &mut Loaded, host: &Host) {
    let mut found = Vec::new();
    // A policy that does not compile is told so where it is compiled.
    if let Ok(space) = BindSpace::new(&[&loaded.policy]) {
        rules(&space, &loaded.policy, &mut found);
    }
    found.extend(of_host(&loaded.policy, host));
    for warning in found {
        let problem = Diagnostic::at(Severity::Warning, warning.location, 1, warning.message);
        loaded.add(problem.with_help(warning.help));
    }
}

struct Warning {
    location: Location,
    message: String,
    help: Option<String>,
}

fn of_host(policy: &Policy, host: &Host) -> Vec<Warning> {
    let mut found = Vec::new();
    let exposed = host.local_ports.as_ref();
    let exposed = exposed.and_then(|ports| ports.exposed(&policy.protect));
    if let (Some(exposed), Some(location)) = (exposed, &policy.setting_locations.protect) {
        found.push(Warning {
            location: location.clone(),
            message: exposed.to_string(),
            help: Some(exposed.mend()),
        });
    }
    let allow = policy
        .rules
        .iter()
        .find(|rule| rule.action == Verdict::Allow);
    if let (false, Some(rule)) = (host.grants, allow) {
        found.push(Warning {
            location: rule.location.clone(),
            message: "this kernel cannot spare a program the capability check: an `allow` only keeps later rules from denying".into(),
            help: Some("Linux 5.12 and later can".into()),
        });
    }
    found
}

fn rules(space: &BindSpace<'_>, policy: &Policy, found: &mut Vec<Warning>) {
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
        let mut of_one = budget.part(BUDGET_OF_ONE);
        let before = of_one.0;
        let fate = fate(space, number, &of_rule[number], &mut of_one);
        budget.0 -= before - of_one.0;
        let Ok(fate) = fate else {
            continue;
        };
        let message = match fate {
            Reachability::Unprotected => "none of its ports is in `protect`".to_owned(),
            Reachability::Shadowed(last) => format!(
                "earlier rules, the last of them `{}`, take all its cases",
                policy.rules[last].name
            ),
            Reachability::Decides(overlaps) => {
                found.extend(overlap(space, rule, &overlaps));
                continue;
            }
        };
        found.push(Warning {
            location: rule.location.clone(),
            message: format!("rule `{}` never decides: {message}", rule.name),
            help: None,
        });
    }
}

/// What becomes of a rule.
enum Reachability<'s, 'a> {
    /// Its ports are not protected.
    Unprotected,
    /// Earlier rules take all, this one the last of it.
    Shadowed(usize),
    /// It decides some binds; earlier rules that do otherwise take these of its regions.
    Decides(Vec<(usize, &'s PortGroup, Region<'a>)>),
}

/// Overlaps with earlier rules that are looked at: more warnings about one rule nobody reads.
const OVERLAPS: usize = 16;

fn fate<'s, 'a>(
    space: &BindSpace<'a>,
    number: usize,
    groups: &[&'s PortGroup],
    budget: &mut Budget,
) -> Result<Reachability<'s, 'a>, SpaceError> {
    let mut fate = Reachability::Unprotected;
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
            match (by, &fate) {
                (None, _) => fate = Reachability::Decides(Vec::new()),
                (Some(by), Reachability::Unprotected) => fate = Reachability::Shadowed(by),
                (Some(by), Reachability::Shadowed(last)) => {
                    fate = Reachability::Shadowed(by.max(*last))
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
        // All groups are looked at only as long as the rule may be dead.
        if matches!(fate, Reachability::Decides(_)) && !overlaps.is_empty() {
            break;
        }
    }
    if let Reachability::Decides(found) = &mut fate {
        *found = overlaps;
    }
    Ok(fate)
}

/// The warning about the first of the overlaps that is worth one. A narrow rule before a wide one is how
/// exceptions are written, and a test of such a bind says that it is meant.
fn overlap(
    space: &BindSpace<'_>,
    rule: &Rule,
    overlaps: &[(usize, &PortGroup, Region<'_>)],
) -> Option<Warning> {
    let policy = space.views.first()?.policy;
    let (earlier, _, region) = overlaps.iter().find_map(|(by, group, region)| {
        let earlier = policy.rules.get(*by)?;
        let other = earlier.action != rule.action || earlier.audit != rule.audit;
        let worth = other && !space.is_within(earlier, rule) && !is_meant(policy, earlier, rule);
        worth.then_some((earlier, group, region))
    })?;
    let verb = match (earlier.action, earlier.audit) {
        (Verdict::Allow, false) => "allows",
        (Verdict::Deny, false) => "denies",
        (Verdict::Kernel, _) => "leaves to the kernel",
        (Verdict::Allow | Verdict::Deny, true) => "only reports",
    };
    let fields = Fields::of(region);
    let mut what = vec![format!(
        "ports {}",
        ranges_text(&shared_ports(policy, earlier, rule))
    )];
    let users = callers_text(&space.callers(&region.users), &policy.given);
    let more = [
        ("users", &users),
        ("groups", &fields.groups),
        ("cgroups", &fields.cgroups),
        ("addresses", &fields.addresses),
    ];
    let more = more.iter().filter(|(_, said)| *said != "any");
    what.extend(more.map(|(field, said)| format!("{field} {said}")));
    Some(Warning {
        location: rule.location.clone(),
        message: format!(
            "rule `{}` is partly taken by the earlier `{}`, which {verb} {}",
            rule.name,
            earlier.name,
            what.join(", ")
        ),
        help: Some(format!(
            "where that is meant, a test of such a bind that expects rule `{}` says so",
            earlier.name
        )),
    })
}

/// Whether a test expects the earlier rule to decide a bind that the later one matches too.
fn is_meant(policy: &Policy, earlier: &Rule, later: &Rule) -> bool {
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

/// The protected ports that both rules match, whatever the protocol.
fn shared_ports(policy: &Policy, one: &Rule, other: &Rule) -> Vec<RangeInclusive<u16>> {
    let has = |rule: &Rule, port: u16| {
        let ports = rule.ports.as_ref();
        ports.is_none_or(|ports| ports.iter().any(|range| range.contains(&port)))
    };
    let both = (policy.protect.iter().cloned().flatten())
        .filter(|port| has(one, *port) && has(other, *port));
    merged(&both.map(|port| port..=port).collect::<Vec<_>>())
}
