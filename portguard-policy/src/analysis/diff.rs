//! What changes for whom from one policy to another: every bind that is decided otherwise, and no other.

use crate::analysis::space::{BindSpace, Budget, Effect, PortGroup, Region, Row, SpaceError};
use crate::policy::{Mode, Rule, Scope};
use std::collections::HashMap;
use std::rc::Rc;

/// Steps of cutting: some seconds.
const BUDGET: usize = 1_000_000_000;

/// Network namespaces in which binds change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Netns {
    /// All that both policies judge.
    Judged,
    /// The initial one.
    Initial,
    /// All others.
    Others,
}

/// What a policy does, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectByRule {
    /// As [`Effect::effect`].
    pub effect: &'static str,
    /// The rule; `None` for the default, and where nothing is decided.
    pub rule: Option<String>,
    /// Whether anything is decided.
    pub decided: bool,
}

impl From<Effect<'_>> for EffectByRule {
    fn from(outcome: Effect<'_>) -> Self {
        Self {
            effect: outcome.effect(),
            rule: outcome.rule.map(|rule| rule.name.clone()),
            decided: outcome.verdict.is_some(),
        }
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Change {
    /// Where.
    pub netns: Netns,
    /// By the old policy.
    pub old: EffectByRule,
    /// By the new one.
    pub new: EffectByRule,
}

/// A region of binds that are decided otherwise.
pub struct Changed<'a> {
    /// Its ports.
    pub group: PortGroup,
    /// All else of it.
    pub region: Region<'a>,
    /// Where.
    pub netns: Netns,
    /// By the old policy.
    pub old: Effect<'a>,
    /// By the new one.
    pub new: Effect<'a>,
}

/// All changes from the first policy of a space to the second, as the rows of a table; what is only reported otherwise (`log`, names of rules) is none.
///
/// # Errors
/// Where their rules overlap in too many ways.
pub fn diff(space: &BindSpace<'_>) -> Result<Vec<Row<Change>>, SpaceError> {
    let found = changes(space)?;
    let rows = found.iter().map(|changed| {
        let (netns, old, new) = (changed.netns, changed.old.into(), changed.new.into());
        (&changed.group, &changed.region, Change { netns, old, new })
    });
    Ok(space.rows(rows))
}

/// The regions that the two policies of a space decide otherwise: no two have a bind in common.
///
/// # Errors
/// Where their rules overlap in too many ways.
pub fn changes<'a>(space: &BindSpace<'a>) -> Result<Vec<Changed<'a>>, SpaceError> {
    let contents = Contents::new(space);
    let mut budget = Budget(BUDGET);
    let mut out = Vec::new();
    let mut scopes = space.views.iter().map(|view| view.policy.scope);
    let namespaces: &[Netns] = if scopes.next() == scopes.next() {
        &[Netns::Judged]
    } else {
        &[Netns::Initial, Netns::Others]
    };
    for group in space.port_groups() {
        for &netns in namespaces {
            let mut group = group.clone();
            for (rules, view) in group.rules.iter_mut().zip(&space.views) {
                if netns == Netns::Others && view.policy.scope == Scope::Host {
                    *rules = None;
                }
            }
            let differing = Differing {
                space,
                contents: &contents,
                group: &group,
            };
            let regions = differing.regions(&mut budget)?;
            let changed = regions
                .into_iter()
                .filter(|(_, old, new)| old.effect() != new.effect());
            out.extend(changed.map(|(region, old, new)| Changed {
                group: group.clone(),
                region,
                netns,
                old,
                new,
            }));
        }
    }
    Ok(out)
}

/// Numbers for what rules say, their ports and names aside: rules that say the same have the same.
struct Contents([Vec<usize>; 2]);

impl Contents {
    fn new(space: &BindSpace<'_>) -> Self {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut of_view = |view: usize| {
            let Some(view) = space.views.get(view) else {
                return Vec::new();
            };
            let number = |rule: &Rule| {
                let Rule {
                    action,
                    users,
                    groups,
                    cgroups,
                    units,
                    addresses,
                    audit,
                    ..
                } = rule;
                let enforced = view.policy.mode == Mode::Enforce && !audit;
                let key = format!(
                    "{action:?}{enforced}{users:?}{groups:?}{cgroups:?}{units:?}{addresses:?}"
                );
                let next = numbers.len();
                *numbers.entry(key).or_insert(next)
            };
            view.policy.rules.iter().map(number).collect()
        };
        Self([of_view(0), of_view(1)])
    }
}

/// The regions of a group of ports in which the policies may differ.
struct Differing<'s, 'a> {
    space: &'s BindSpace<'a>,
    contents: &'s Contents,
    group: &'s PortGroup,
}

type DecisionEvent<'a> = (Region<'a>, Effect<'a>, Effect<'a>);

impl<'a> Differing<'_, 'a> {
    fn regions(&self, budget: &mut Budget) -> Result<Vec<DecisionEvent<'a>>, SpaceError> {
        let none = Rc::default();
        let rules = |view: usize| self.group.rules[view].as_ref().unwrap_or(&none);
        let (old, new) = (rules(0).as_slice(), rules(1).as_slice());
        let both = self.group.rules.iter().all(Option::is_some);
        let same = |(a, b): (&usize, &usize)| self.contents.0[0][*a] == self.contents.0[1][*b];
        let mut out = Vec::new();
        if !both {
            // Nothing that one of them decides is the same in the other.
            let regions = self.space.whole();
            let view = usize::from(self.group.rules[0].is_none());
            let rules = if view == 0 { old } else { new };
            for (_, regions) in self.space.split(regions, view, rules, budget)? {
                self.decide(regions, &mut out);
            }
            return Ok(out);
        }
        // What equal rules at the beginning take is decided alike.
        let first = old
            .iter()
            .zip(new)
            .take_while(|pair| same((pair.0, pair.1)))
            .count();
        let (before, old) = old.split_at(first);
        let new = &new[first..];
        let last = old.iter().rev().zip(new.iter().rev());
        let last = last.take_while(|pair| same((pair.0, pair.1))).count();
        let (old_middle, old_rest) = old.split_at(old.len() - last);
        let (new_middle, new_rest) = new.split_at(new.len() - last);
        let defaults_differ = self.default_effect(0) != self.default_effect(1);
        if old_middle.is_empty() && new_middle.is_empty() && !defaults_differ {
            return Ok(out);
        }
        // Cut by what differs first: that leaves little to be cut by all the others.
        for (by_old, regions) in self
            .space
            .split(self.space.whole(), 0, old_middle, budget)?
        {
            for (by_new, regions) in self.space.split(regions, 1, new_middle, budget)? {
                if by_old.is_none() && by_new.is_none() && !defaults_differ {
                    // What equal rules at the end take is decided alike.
                    continue;
                }
                let regions = self.space.rest(regions, 0, before, budget)?;
                match (by_old, by_new) {
                    (Some(_), Some(_)) => self.decide(regions, &mut out),
                    (Some(_), None) => self.decide_by(regions, 1, new_rest, budget, &mut out)?,
                    (None, Some(_)) => self.decide_by(regions, 0, old_rest, budget, &mut out)?,
                    (None, None) => {
                        let left = self.space.rest(regions, 0, old_rest, budget)?;
                        self.decide(left, &mut out);
                    }
                }
            }
        }
        Ok(out)
    }

    fn decide_by(
        &self,
        regions: Vec<Region<'a>>,
        view: usize,
        rules: &[usize],
        budget: &mut Budget,
        out: &mut Vec<DecisionEvent<'a>>,
    ) -> Result<(), SpaceError> {
        for (_, regions) in self.space.split(regions, view, rules, budget)? {
            self.decide(regions, out);
        }
        Ok(())
    }

    fn decide(&self, regions: Vec<Region<'a>>, out: &mut Vec<DecisionEvent<'a>>) {
        for region in regions {
            let outcome = |view: usize| match self.group.rules[view] {
                Some(_) => self.space.outcome(view, self.group, &region),
                None => Effect::UNDECIDED,
            };
            let (old, new) = (outcome(0), outcome(1));
            out.push((region, old, new));
        }
    }

    fn default_effect(&self, view: usize) -> &'static str {
        let policy = self.space.views[view].policy;
        let default = Effect {
            verdict: Some(policy.default),
            enforced: policy.mode == Mode::Enforce,
            rule: None,
        };
        default.effect()
    }
}
