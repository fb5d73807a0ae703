//! The space of all binds, cut into regions in which a policy, or each of two, decides by one rule.
//!
//! Ports are told apart by the compiler's tables, cgroups and addresses by an example of each of the
//! compiler's classes, users and groups by their ranges. What is decided in a region is asked of
//! [`crate::compile::Tables::decide`] at a bind in it. Exact, but for paths deeper than the kernel reads: those are looked
//! at by example.

mod display;
mod policy_view;
mod region;
mod rows;
mod users;

pub use display::{Fields, callers_text, ports_text};
pub use policy_view::PolicyView;
pub use region::Region;
pub use rows::Row;
pub use users::{Callers, UidRanges, Uids, Users};

use crate::compile::{Bind, CompileError, address_witnesses, cgroup_witnesses};
use crate::policy::{Mode, Policy, Rule, merged, outside};
use policy_view::{PortSteps, RuleMask};
use portguard_common::{Protocol, Verdict};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use thiserror::Error;
use users::UserAtoms;

/// Why a space cannot be cut.
#[derive(Debug, Error)]
pub enum SpaceError {
    /// A policy cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The rules overlap in too many ways.
    #[error(
        "the rules overlap in too many ways to tell all their regions apart: use fewer rules that share ports and cross each other in users, groups, cgroups and addresses"
    )]
    TooComplex,
}

/// Steps that cutting may take, before it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Budget(pub usize);

impl Budget {
    /// Steps that stand for a cut, beside those for the size of its sets.
    const CUT: usize = 50;
    /// Steps that stand for the memory of a region more.
    const REGION: usize = 2000;

    /// A part of the budget, not more than is left.
    #[must_use]
    pub fn part(&self, steps: usize) -> Self {
        Self(self.0.min(steps))
    }

    fn take(&mut self, steps: usize) -> Result<(), SpaceError> {
        self.0 = self.0.checked_sub(steps).ok_or(SpaceError::TooComplex)?;
        Ok(())
    }
}

/// A rule, and the regions that it takes; no rule, and those that none takes.
pub type Split<'a> = (Option<usize>, Vec<Region<'a>>);

/// One or two policies over the same space.
pub struct BindSpace<'a> {
    /// The policies.
    pub sides: Vec<PolicyView<'a>>,
    /// Uids that the same rules name.
    users: UserAtoms,
    /// An example of each class of cgroups.
    cgroups: Vec<Vec<String>>,
    /// An example of each class of addresses; whether `::` takes IPv4 too.
    addresses: Vec<(IpAddr, bool)>,
}

/// Ports that the same rules match, in each policy.
#[derive(Clone, Debug)]
pub struct PortGroup {
    /// By protocol, in the order of [`Protocol::ALL`].
    pub ports: [Vec<RangeInclusive<u16>>; 4],
    /// Numbers of the rules of each policy; `None` where the ports are not protected.
    pub rules: Vec<Option<Rc<Vec<usize>>>>,
}

/// What a policy makes of a region.
#[derive(Clone, Copy, Debug)]
pub struct Effect<'a> {
    /// The verdict; `None` where nothing is decided.
    pub verdict: Option<Verdict>,
    /// Whether it is carried out.
    pub enforced: bool,
    /// The deciding rule; `None` for the default.
    pub rule: Option<&'a Rule>,
}

impl Effect<'_> {
    /// Nothing is decided.
    pub const UNDECIDED: Self = Self {
        verdict: None,
        enforced: false,
        rule: None,
    };

    /// What becomes of the bind, and what is said of it in audit mode.
    #[must_use]
    pub const fn effect(&self) -> &'static str {
        match (self.verdict, self.enforced) {
            (None | Some(Verdict::Kernel), _) => "kernel",
            (Some(Verdict::Allow), true) => "allow",
            (Some(Verdict::Deny), true) => "deny",
            (Some(Verdict::Allow), false) => "kernel (audit: allow)",
            (Some(Verdict::Deny), false) => "kernel (audit: deny)",
        }
    }
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
        let sides = policies.iter();
        let sides = sides.map(|policy| PolicyView::new(policy, &users, &cgroups, &addresses));
        Ok(Self {
            sides: sides.collect::<Result<_, _>>()?,
            users,
            cgroups,
            addresses,
        })
    }

    /// The ports that any policy protects, by the rules that match them.
    #[must_use]
    pub fn port_groups(&self) -> Vec<PortGroup> {
        type Key = Vec<Option<Rc<Vec<usize>>>>;
        let mut groups: HashMap<Key, PortGroup> = HashMap::new();
        for (i, protocol) in Protocol::ALL.into_iter().enumerate() {
            let sides: Vec<PortSteps> =
                self.sides.iter().map(|side| side.steps(protocol)).collect();
            let starts: BTreeSet<u16> = sides.iter().flat_map(PortSteps::starts).collect();
            let mut starts = starts.into_iter().peekable();
            while let Some(first) = starts.next() {
                let last = starts.peek().map_or(u16::MAX, |next| next - 1);
                let rules: Key = sides.iter().map(|side| side.at(first)).collect();
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

    /// All binds of a port by callers whose real and effective uid are the same, and by all others.
    #[must_use]
    pub fn whole(&self) -> Vec<Region<'a>> {
        Region::whole(
            self.users.everyone(),
            self.cgroups.len(),
            self.addresses.len(),
        )
    }

    /// What the rule takes of a region whose ports it matches.
    pub(crate) fn shape(&self, side: usize, rule: usize) -> &RuleMask<'a> {
        &self.sides[side].shapes[rule]
    }

    /// Whether one rule of the first policy matches nothing but what another matches too, whoever decides it.
    #[must_use]
    pub fn is_within(&self, one: &Rule, other: &Rule) -> bool {
        let Some(side) = self.sides.first() else {
            return false;
        };
        let shape = |rule: &Rule| {
            side.shapes
                .iter()
                .find(|shape| shape.rule.name == rule.name)
        };
        let (Some(one), Some(other)) = (shape(one), shape(other)) else {
            return false;
        };
        let users = match (&one.users, &other.users) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => one.is_subset(other),
        };
        let groups = match (&one.groups, &other.groups) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => outside(one, other).is_empty(),
        };
        let protocols = (Protocol::ALL.iter())
            .all(|protocol| !one.rule.is_for(*protocol) || other.rule.is_for(*protocol));
        let ports = |rule: &Rule| merged(rule.ports.as_deref().unwrap_or(&[1..=u16::MAX]));
        users
            && groups
            && protocols
            && outside(&ports(one.rule), &ports(other.rule)).is_empty()
            && one.cgroups.is_subset(&other.cgroups)
            && one.addresses.is_subset(&other.addresses)
    }

    /// Cuts regions by the rules that match their ports: what each takes, in order, and at last what none does.
    ///
    /// # Errors
    /// Where that takes more than the budget.
    pub fn split(
        &self,
        regions: Vec<Region<'a>>,
        side: usize,
        rules: &[usize],
        budget: &mut Budget,
    ) -> Result<Vec<Split<'a>>, SpaceError> {
        let mut out = Vec::new();
        let mut each = |rule, taken: Vec<Region<'a>>| out.push((Some(rule), taken));
        let left = self.cut_by(regions, side, rules, budget, &mut each)?;
        if !left.is_empty() {
            out.push((None, left));
        }
        Ok(out)
    }

    /// What rules leave of regions.
    ///
    /// # Errors
    /// Where that takes more than the budget.
    pub fn rest(
        &self,
        regions: Vec<Region<'a>>,
        side: usize,
        rules: &[usize],
        budget: &mut Budget,
    ) -> Result<Vec<Region<'a>>, SpaceError> {
        self.cut_by(regions, side, rules, budget, &mut |_, _| ())
    }

    fn cut_by(
        &self,
        regions: Vec<Region<'a>>,
        side: usize,
        rules: &[usize],
        budget: &mut Budget,
        each: &mut dyn FnMut(usize, Vec<Region<'a>>),
    ) -> Result<Vec<Region<'a>>, SpaceError> {
        let mut open = regions;
        for &rule in rules {
            if open.is_empty() {
                break;
            }
            let shape = self.shape(side, rule);
            let before = open.len();
            let mut taken = Vec::new();
            let mut left = Vec::with_capacity(open.len());
            for region in open {
                budget.take(1)?;
                region.cut(&self.users, shape, &mut taken, &mut left, budget)?;
            }
            let taken = region::joined(taken);
            let more = (taken.len() + left.len()).saturating_sub(before);
            budget.take(more * Budget::REGION)?;
            if !taken.is_empty() {
                each(rule, taken);
            }
            open = left;
        }
        Ok(open)
    }

    /// What a policy decides in a region, by a bind of it.
    #[must_use]
    pub fn outcome(&self, side: usize, group: &PortGroup, region: &Region<'a>) -> Effect<'a> {
        let side = &self.sides[side];
        let Some((port, protocol)) = group.first() else {
            return Effect::UNDECIDED;
        };
        let (uid, euid) = self.users.example(&region.users);
        let gids = region.example_gids();
        let path = self.example_path(region);
        let (address, dual_stack) = self.example_address(region);
        let decision = side.tables.decide(&Bind {
            port,
            protocol,
            uid,
            euid,
            gids: &gids,
            cgroup: &path,
            address,
            dual_stack,
        });
        decision.map_or(Effect::UNDECIDED, |decision| Effect {
            verdict: Some(decision.verdict),
            enforced: side.policy.mode == Mode::Enforce && !decision.audit,
            rule: side.policy.rule(decision.rule),
        })
    }

    /// Whether a region has a bind, its port and protocol aside.
    #[must_use]
    pub fn contains(&self, region: &Region<'_>, bind: &Bind<'_>) -> bool {
        let rules_of = |path: &[&str]| -> Vec<_> {
            self.sides
                .iter()
                .map(|side| side.tables.rules_of_cgroup(path))
                .collect()
        };
        let rules_at = |(address, dual_stack): (IpAddr, bool)| -> Vec<_> {
            let tables = self.sides.iter().map(|side| &side.tables);
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

impl PortGroup {
    /// The first port, and the first protocol that has it here.
    #[must_use]
    pub fn first(&self) -> Option<(u16, Protocol)> {
        let firsts = self.ports.iter().zip(Protocol::ALL);
        let firsts =
            firsts.filter_map(|(ports, protocol)| Some((*ports.first()?.start(), protocol)));
        firsts.min()
    }

    /// The group of one port for one protocol.
    #[must_use]
    pub fn has(&self, port: u16, protocol: Protocol) -> bool {
        let ports = &self.ports[protocol as usize];
        ports.iter().any(|range| range.contains(&port))
    }
}

/// The rules of all policies for the sake of their paths and addresses, each set of them once.
fn patterns_once(policies: &[&Policy]) -> Vec<Rule> {
    let mut seen = BTreeSet::new();
    let rules = policies.iter().flat_map(|policy| &policy.rules);
    let fields = |rule: &Rule| format!("{:?}{:?}{:?}", rule.cgroups, rule.units, rule.addresses);
    rules
        .filter(|rule| seen.insert(fields(rule)))
        .cloned()
        .collect()
}
