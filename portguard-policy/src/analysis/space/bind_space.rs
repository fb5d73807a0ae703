//! One or two policies over the same space of binds.

use super::budget::{Budget, SpaceError};
use super::effect::{DecidedBy, Effect, EffectByRule};
use super::policy_view::{PolicyView, PortSteps, RuleMask};
use super::port_group::PortGroup;
use super::region::{self, Region};
use super::users::UserAtoms;
use crate::compile::{Bind, address_witnesses, cgroup_witnesses};
use crate::policy::{Mode, Policy, Rule, merged, outside};
use portguard_common::Protocol;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

/// A rule and the regions that it matches; `None` with the regions that no rule matches.
pub type Split<'a> = (Option<usize>, Vec<Region<'a>>);

/// One or two policies over the same space.
pub struct BindSpace<'a> {
    /// The policies.
    pub views: Vec<PolicyView<'a>>,
    /// Sets of uids that the same rules name.
    pub(super) users: UserAtoms,
    /// An example of each class of cgroups.
    cgroups: Vec<Vec<String>>,
    /// An example of each class of addresses, and whether its socket is dual-stack.
    addresses: Vec<(IpAddr, bool)>,
}

impl<'a> BindSpace<'a> {
    /// The space of one policy or two.
    ///
    /// # Errors
    /// Where a policy does not compile, or the patterns of both are too complex together.
    pub fn new(policies: &[&'a Policy]) -> Result<Self, SpaceError> {
        let all = patterns_once(policies);
        let cgroups = cgroup_witnesses(&all)?;
        let addresses = address_witnesses(&all);
        let users = UserAtoms::new(policies.iter().flat_map(|policy| &policy.rules));
        let views = policies.iter();
        let views = views.map(|policy| PolicyView::new(policy, &users, &cgroups, &addresses));
        Ok(Self {
            views: views.collect::<Result<_, _>>()?,
            users,
            cgroups,
            addresses,
        })
    }

    /// The ports that any policy protects, grouped by the rules that match them.
    #[must_use]
    pub fn port_groups(&self) -> Vec<PortGroup> {
        type Key = Vec<Option<Rc<Vec<usize>>>>;
        let mut groups: HashMap<Key, PortGroup> = HashMap::new();
        for (i, protocol) in Protocol::ALL.into_iter().enumerate() {
            let views: Vec<PortSteps> =
                self.views.iter().map(|view| view.steps(protocol)).collect();
            let starts: BTreeSet<u16> = views.iter().flat_map(PortSteps::starts).collect();
            let mut starts = starts.into_iter().peekable();
            while let Some(first) = starts.next() {
                let last = starts.peek().map_or(u16::MAX, |next| next - 1);
                let rules: Key = views.iter().map(|view| view.at(first)).collect();
                if rules.iter().all(Option::is_none) {
                    continue;
                }
                let group = groups.entry(rules.clone()).or_insert_with(|| PortGroup {
                    ports: Default::default(),
                    rules,
                });
                group.ports[i].push(first..=last);
            }
        }
        let mut groups: Vec<PortGroup> = groups.into_values().collect();
        for group in &mut groups {
            for ports in &mut group.ports {
                *ports = merged(ports);
            }
        }
        groups.sort_by_key(|group| group.first());
        groups
    }

    /// All binds of a port: those of callers whose real and effective uid are equal, and those of all others.
    #[must_use]
    pub fn whole(&self) -> Vec<Region<'a>> {
        Region::whole(
            self.users.everyone(),
            self.cgroups.len(),
            self.addresses.len(),
        )
    }

    /// What a rule matches.
    pub(crate) fn mask(&self, view: usize, rule: usize) -> &RuleMask<'a> {
        &self.views[view].masks[rule]
    }

    /// Whether another rule of the first policy matches all binds that one rule matches, whichever decides them.
    #[must_use]
    pub fn is_within(&self, one: &Rule, other: &Rule) -> bool {
        let Some(view) = self.views.first() else {
            return false;
        };
        let mask = |rule: &Rule| view.masks.iter().find(|mask| mask.rule.name == rule.name);
        let (Some(one), Some(other)) = (mask(one), mask(other)) else {
            return false;
        };
        // Exhaustive: a new dimension must be compared.
        let RuleMask {
            rule,
            users,
            groups,
            cgroups,
            addresses,
        } = one;
        let users = match (users, &other.users) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => one.is_subset(other),
        };
        let groups = match (groups, &other.groups) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => outside(one, other).is_empty(),
        };
        let protocols = (Protocol::ALL.iter())
            .all(|protocol| !rule.is_for(*protocol) || other.rule.is_for(*protocol));
        let ports = |rule: &Rule| merged(rule.ports.as_deref().unwrap_or(&[1..=u16::MAX]));
        users
            && groups
            && protocols
            && outside(&ports(rule), &ports(other.rule)).is_empty()
            && cgroups.is_subset(&other.cgroups)
            && addresses.is_subset(&other.addresses)
    }

    /// Splits regions by the rules that match their ports: first what each rule matches, in order, then the rest.
    ///
    /// # Errors
    /// Where that exceeds the budget.
    pub fn split(
        &self,
        regions: Vec<Region<'a>>,
        view: usize,
        rules: &[usize],
        budget: &mut Budget,
    ) -> Result<Vec<Split<'a>>, SpaceError> {
        let mut out = Vec::new();
        let mut each = |rule, matched: Vec<Region<'a>>| out.push((Some(rule), matched));
        let rest = self.cut_by(regions, view, rules, budget, &mut each)?;
        if !rest.is_empty() {
            out.push((None, rest));
        }
        Ok(out)
    }

    /// The parts of regions that no rule matches.
    ///
    /// # Errors
    /// Where that takes more than the budget.
    pub fn rest(
        &self,
        regions: Vec<Region<'a>>,
        view: usize,
        rules: &[usize],
        budget: &mut Budget,
    ) -> Result<Vec<Region<'a>>, SpaceError> {
        self.cut_by(regions, view, rules, budget, &mut |_, _| ())
    }

    fn cut_by(
        &self,
        regions: Vec<Region<'a>>,
        view: usize,
        rules: &[usize],
        budget: &mut Budget,
        each: &mut dyn FnMut(usize, Vec<Region<'a>>),
    ) -> Result<Vec<Region<'a>>, SpaceError> {
        let mut open = regions;
        for &rule in rules {
            if open.is_empty() {
                break;
            }
            let mask = self.mask(view, rule);
            let before = open.len();
            let mut matched = Vec::new();
            let mut rest = Vec::with_capacity(open.len());
            for region in open {
                budget.take(1)?;
                region.cut(&self.users, mask, &mut matched, &mut rest, budget)?;
            }
            let matched = region::joined(matched);
            let more = (matched.len() + rest.len()).saturating_sub(before);
            budget.take(more * Budget::REGION)?;
            if !matched.is_empty() {
                each(rule, matched);
            }
            open = rest;
        }
        Ok(open)
    }

    /// What a policy does with the binds of a region, decided for one bind of it.
    #[must_use]
    pub fn effect(&self, view: usize, group: &PortGroup, region: &Region<'a>) -> EffectByRule<'a> {
        let view = &self.views[view];
        let Some((port, protocol)) = group.first() else {
            return EffectByRule::UNDECIDED;
        };
        let (uid, euid) = self.users.example(&region.users);
        let gids = region.example_gids();
        let path = self.example_path(region);
        let (address, dual_stack) = self.example_address(region);
        let decision = view.tables.decide(&Bind {
            port,
            protocol,
            uid,
            euid,
            gids: &gids,
            // Programs without the setgid bit: see docs/analysis.md.
            setgid: None,
            // In the initial user namespace: see docs/analysis.md.
            owners: &[],
            cgroup: &path,
            address,
            dual_stack,
        });
        decision.map_or(EffectByRule::UNDECIDED, |decision| {
            let enforced = view.policy.mode == Mode::Enforce && !decision.audit;
            let rule = view.policy.rule(decision.rule);
            EffectByRule {
                effect: Effect::new(decision.verdict, enforced, decision.errno),
                by: rule.map_or(DecidedBy::Default, |rule| DecidedBy::Rule(&rule.name)),
            }
        })
    }

    /// Whether a bind is in a region, apart from its port and protocol.
    #[must_use]
    pub fn contains(&self, region: &Region<'_>, bind: &Bind<'_>) -> bool {
        let rules_of = |path: &[&str]| -> Vec<_> {
            self.views
                .iter()
                .map(|view| view.tables.rules_of_cgroup(path))
                .collect()
        };
        let rules_at = |(address, dual_stack): (IpAddr, bool)| -> Vec<_> {
            let tables = self.views.iter().map(|view| &view.tables);
            tables
                .map(|tables| tables.rules_of_address(address, dual_stack))
                .collect()
        };
        let cgroup = rules_of(bind.cgroup);
        let address = rules_at((bind.address, bind.dual_stack));
        self.users.has(&region.users, bind.uid, bind.euid)
            && region.has_groups(bind)
            && region.cgroups.ones().any(|i| {
                let path: Vec<&str> = self.cgroups[i].iter().map(String::as_str).collect();
                rules_of(&path) == cgroup
            })
            && region
                .addresses
                .ones()
                .any(|i| rules_at(self.addresses[i]) == address)
    }

    fn example_path(&self, region: &Region<'_>) -> Vec<&str> {
        let path = region.cgroups.ones().next().map(|i| &self.cgroups[i]);
        path.into_iter().flatten().map(String::as_str).collect()
    }

    fn example_address(&self, region: &Region<'_>) -> (IpAddr, bool) {
        let any = (IpAddr::from([0, 0, 0, 0]), false);
        let first = region.addresses.ones().next();
        first.map_or(any, |i| self.addresses[i])
    }
}

/// The rules of all policies, one for each set of paths and addresses.
fn patterns_once(policies: &[&Policy]) -> Vec<Rule> {
    let mut seen = BTreeSet::new();
    let rules = policies.iter().flat_map(|policy| &policy.rules);
    let fields = |rule: &Rule| format!("{:?}{:?}{:?}", rule.cgroups, rule.units, rule.addresses);
    rules
        .filter(|rule| seen.insert(fields(rule)))
        .cloned()
        .collect()
}
