//! What changes for whom from one policy to another: exactly the binds that are decided differently.

use crate::analysis::space::{
    BindSpace, Budget, Effect, EffectByRule, PortGroup, Region, Row, SpaceError,
};
use crate::policy::{Mode, Rule, Scope};
use portguard_common::Errno;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

/// Steps of cutting: a few seconds.
const BUDGET: usize = 1_000_000_000;

/// The network namespaces in which binds change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Netns {
    /// All in the scope of the policies, which is the same.
    Any,
    /// The initial one.
    Initial,
    /// All others.
    Others,
}

impl Netns {
    /// The name that tables and JSON show.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Initial => "initial",
            Self::Others => "others",
        }
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change: the value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Change<'a> {
    /// Where.
    pub netns: Netns,
    /// By the old policy.
    pub old: EffectByRule<'a>,
    /// By the new one.
    pub new: EffectByRule<'a>,
}

/// A region whose binds the two policies decide differently.
pub struct ChangedRegion<'a> {
    /// Its ports.
    pub group: PortGroup,
    /// Its other dimensions.
    pub region: Region<'a>,
    /// Where, and what changes.
    pub change: Change<'a>,
}

/// All changes from the first policy of a space to the second, as the rows of a table. Differences in what is
/// only reported (`log`, the names of rules) are no changes.
///
/// # Errors
/// Where the rules overlap in too many ways.
pub fn diff<'a>(space: &BindSpace<'a>) -> Result<Vec<Row<Change<'a>>>, SpaceError> {
    let found = changes(space)?;
    let rows = found
        .iter()
        .map(|found| (&found.group, &found.region, found.change.clone()));
    Ok(space.rows(rows))
}

/// The regions that the two policies of a space decide differently; no two have a bind in common.
///
/// # Errors
/// Where the rules overlap in too many ways.
pub fn changes<'a>(space: &BindSpace<'a>) -> Result<Vec<ChangedRegion<'a>>, SpaceError> {
    let contents = RuleContents::new(space);
    let mut budget = Budget(BUDGET);
    let mut out = Vec::new();
    let mut scopes = space.views.iter().map(|view| view.policy.scope);
    let namespaces: &[Netns] = if scopes.next() == scopes.next() {
        &[Netns::Any]
    } else {
        &[Netns::Initial, Netns::Others]
    };
    for group in space.port_groups() {
        for &netns in namespaces {
            let group = within_scope(space, &group, netns);
            let candidates = Candidates {
                space,
                contents: &contents,
                group: &group,
            };
            for (region, old, new) in candidates.regions(&mut budget)? {
                if old.effect != new.effect {
                    out.push(ChangedRegion {
                        group: group.clone(),
                        region,
                        change: Change { netns, old, new },
                    });
                }
            }
        }
    }
    Ok(out)
}

/// The group without the rules of policies that do not reach these namespaces.
fn within_scope(space: &BindSpace<'_>, group: &PortGroup, netns: Netns) -> PortGroup {
    let mut group = group.clone();
    for (rules, view) in group.rules.iter_mut().zip(&space.views) {
        if netns == Netns::Others && view.policy.scope == Scope::Host {
            *rules = None;
        }
    }
    group
}

/// Numbers for the contents of rules without ports and names: rules of equal content have equal numbers.
struct RuleContents([Vec<usize>; 2]);

impl RuleContents {
    fn new(space: &BindSpace<'_>) -> Self {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut of_view = |view: usize| {
            let Some(view) = space.views.get(view) else {
                return Vec::new();
            };
            let number = |rule: &Rule| {
                // Exhaustive: a new field must be compared.
                let Rule {
                    name: _,
                    action,
                    ports: _,
                    protocols: _,
                    users,
                    groups,
                    cgroups,
                    units,
                    addresses,
                    audit,
                    log: _,
                    errno,
                    location: _,
                } = rule;
                let enforced = view.policy.mode == Mode::Enforce && !audit;
                let key = format!(
                    "{action:?}{errno:?}{enforced}{users:?}{groups:?}{cgroups:?}{units:?}{addresses:?}"
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
struct Candidates<'s, 'a> {
    space: &'s BindSpace<'a>,
    contents: &'s RuleContents,
    group: &'s PortGroup,
}

/// A region, and what the old and the new policy do with its binds.
type Compared<'a> = (Region<'a>, EffectByRule<'a>, EffectByRule<'a>);

impl<'a> Candidates<'_, 'a> {
    fn regions(&self, budget: &mut Budget) -> Result<Vec<Compared<'a>>, SpaceError> {
        let none = Rc::default();
        let rules = |view: usize| self.group.rules[view].as_ref().unwrap_or(&none);
        let (old, new) = (rules(0).as_slice(), rules(1).as_slice());
        let both = self.group.rules.iter().all(Option::is_some);
        let same = |(a, b): (&usize, &usize)| self.contents.0[0][*a] == self.contents.0[1][*b];
        let mut out = Vec::new();
        if !both {
            // One policy decides nothing here, so no rules can cancel out.
            let regions = self.space.whole();
            let view = usize::from(self.group.rules[0].is_none());
            let rules = if view == 0 { old } else { new };
            for (_, regions) in self.space.split(regions, view, rules, budget)? {
                self.decide(regions, &mut out);
            }
            return Ok(out);
        }
        // Binds that equal rules at the beginning match are decided equally.
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
        // Split by the rules that differ first: that leaves little to split by all others.
        for (by_old, regions) in self
            .space
            .split(self.space.whole(), 0, old_middle, budget)?
        {
            for (by_new, regions) in self.space.split(regions, 1, new_middle, budget)? {
                if by_old.is_none() && by_new.is_none() && !defaults_differ {
                    // Binds that equal rules at the end match are decided equally.
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
        out: &mut Vec<Compared<'a>>,
    ) -> Result<(), SpaceError> {
        for (_, regions) in self.space.split(regions, view, rules, budget)? {
            self.decide(regions, out);
        }
        Ok(())
    }

    fn decide(&self, regions: Vec<Region<'a>>, out: &mut Vec<Compared<'a>>) {
        for region in regions {
            let effect = |view: usize| match self.group.rules[view] {
                Some(_) => self.space.effect(view, self.group, &region),
                None => EffectByRule::UNDECIDED,
            };
            let (old, new) = (effect(0), effect(1));
            out.push((region, old, new));
        }
    }

    fn default_effect(&self, view: usize) -> Effect {
        let policy = self.space.views[view].policy;
        Effect::new(
            policy.default,
            policy.mode == Mode::Enforce,
            Errno::default(),
        )
    }
}
