//! A policy in a space: what each of its rules matches.

use super::budget::SpaceError;
use super::users::UserAtoms;
use crate::compile::{Tables, compile, ports_of_rules};
use crate::policy::{Policy, Rule, merged};
use fixedbitset::FixedBitSet;
use portguard_common::{MAX_RULES, Protocol, Verdict};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// A policy in a space.
pub struct PolicyView<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its tables.
    pub tables: Tables,
    pub(super) masks: Vec<RuleMask<'a>>,
}

/// What a rule matches of the space, apart from ports.
pub(crate) struct RuleMask<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) users: Option<Rc<FixedBitSet>>,
    pub(crate) groups: Option<Vec<RangeInclusive<u32>>>,
    pub(crate) cgroups: Rc<FixedBitSet>,
    pub(crate) addresses: Rc<FixedBitSet>,
}

impl<'a> RuleMask<'a> {
    fn new(
        rule: &'a Rule,
        atoms: &UserAtoms,
        cgroups: FixedBitSet,
        addresses: FixedBitSet,
    ) -> Self {
        // Exhaustive: a new field needs a dimension here, in `Region` and in `Cut`.
        let Rule {
            name: _,
            action: _,
            ports: _,
            protocols: _,
            users: _,
            groups,
            cgroups: _,
            units: _,
            addresses: _,
            audit: _,
            log: _,
            errno: _,
            location: _,
        } = rule;
        Self {
            rule,
            users: atoms.of(rule),
            groups: groups.as_deref().map(merged),
            cgroups: Rc::new(cgroups),
            addresses: Rc::new(addresses),
        }
    }
}

/// The ports at which the set of matching rules changes, for one protocol of one policy.
pub(super) struct PortSteps {
    steps: Vec<(u16, Rc<Vec<usize>>)>,
    protect: Vec<RangeInclusive<u16>>,
}

impl PortSteps {
    pub(super) fn starts(&self) -> Vec<u16> {
        let steps = self.steps.iter().map(|(start, _)| *start);
        let ends = self
            .protect
            .iter()
            .filter_map(|range| range.end().checked_add(1));
        let begins = self.protect.iter().map(|range| *range.start());
        steps.chain(begins).chain(ends).collect()
    }

    pub(super) fn at(&self, port: u16) -> Option<Rc<Vec<usize>>> {
        if !self.protect.iter().any(|range| range.contains(&port)) {
            return None;
        }
        let after = self.steps.partition_point(|(start, _)| *start <= port);
        let step = after.checked_sub(1).and_then(|at| self.steps.get(at));
        Some(step.map_or_else(Rc::default, |(_, rules)| Rc::clone(rules)))
    }
}

impl<'a> PolicyView<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        users: &UserAtoms,
        cgroups: &[Vec<String>],
        addresses: &[(IpAddr, bool)],
    ) -> Result<Self, SpaceError> {
        let tables = compile(policy)?;
        let mut by_cgroup = vec![FixedBitSet::with_capacity(cgroups.len()); policy.rules.len()];
        for (i, path) in cgroups.iter().enumerate() {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let rules = tables.rules_of_cgroup(&path);
            for (rule, set) in by_cgroup.iter_mut().enumerate() {
                set.set(i, rules.is_some_and(|words| has(&words, rule)));
            }
        }
        let mut by_address = vec![FixedBitSet::with_capacity(addresses.len()); policy.rules.len()];
        for (i, (address, dual_stack)) in addresses.iter().enumerate() {
            let rules = tables.rules_of_address(*address, *dual_stack);
            for (rule, set) in by_address.iter_mut().enumerate() {
                let denies = policy.rules[rule].action == Verdict::Deny;
                let holds = |[one, other]: [[u64; _]; 2]| match denies {
                    true => has(&one, rule) || has(&other, rule),
                    false => has(&one, rule) && has(&other, rule),
                };
                set.set(i, rules.is_some_and(holds));
            }
        }
        let masks = policy.rules.iter().zip(by_cgroup).zip(by_address);
        let masks = masks
            .map(|((rule, cgroups), addresses)| RuleMask::new(rule, users, cgroups, addresses));
        Ok(Self {
            policy,
            tables,
            masks: masks.collect(),
        })
    }

    pub(super) fn steps(&self, protocol: Protocol) -> PortSteps {
        let steps = ports_of_rules(&self.policy.rules, protocol).into_iter();
        PortSteps {
            steps: steps
                .map(|(start, rules)| (start, Rc::new(rules)))
                .collect(),
            protect: merged(&self.policy.protect),
        }
    }
}

/// Whether a vector has a rule; its first word is the summary of the others.
fn has(words: &portguard_common::VectorWords, rule: usize) -> bool {
    debug_assert!(rule < MAX_RULES);
    words
        .get(1 + rule / 64)
        .is_some_and(|word| word >> (rule % 64) & 1 == 1)
}
