//! A region: the product of sets of users, groups, cgroups and addresses.

use super::budget::{Budget, SpaceError};
use super::cuts::{Cuts, Part};
use super::policy_view::RuleMask;
use super::users::{UserAtoms, Users};
use crate::compile::Bind;
use crate::policy::{merged, outside};
use fixedbitset::FixedBitSet;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// A region of the binds of a group of ports; never empty.
#[derive(Clone)]
pub struct Region<'a> {
    /// The callers.
    pub users: Users,
    /// The caller has a gid of each of these sets.
    pub(super) groups: Rc<Vec<Rc<Gids>>>,
    /// The caller has none of these gids.
    pub(super) not_groups: Rc<Gids>,
    pub(super) cgroups: Rc<FixedBitSet>,
    pub(super) addresses: Rc<FixedBitSet>,
    /// The cuts that made the region, for its description.
    pub(super) cuts: Cuts<'a>,
}

type Gids = Vec<RangeInclusive<u32>>;

const LAST_GID: u32 = u32::MAX - 1;

impl<'a> Region<'a> {
    pub(super) fn whole(users: [Users; 2], cgroups: usize, addresses: usize) -> Vec<Self> {
        let all = |count: usize| {
            let mut set = FixedBitSet::with_capacity(count);
            set.insert_range(..);
            Rc::new(set)
        };
        let region = |users| Self {
            users,
            groups: Rc::default(),
            not_groups: Rc::default(),
            cgroups: all(cgroups),
            addresses: all(addresses),
            cuts: Cuts::default(),
        };
        users.map(region).into()
    }

    pub(super) fn atoms(&self, part: Part) -> &Rc<FixedBitSet> {
        match part {
            Part::Addresses => &self.addresses,
            Part::Cgroups | Part::Groups => &self.cgroups,
        }
    }

    fn atoms_mut(&mut self, part: Part) -> &mut Rc<FixedBitSet> {
        match part {
            Part::Addresses => &mut self.addresses,
            Part::Cgroups | Part::Groups => &mut self.cgroups,
        }
    }

    /// Gids of a caller in the region.
    pub(super) fn example_gids(&self) -> Vec<u32> {
        let first = |gids: &Gids| gids.first().map(|range| *range.start());
        let mut gids: Vec<u32> = self
            .groups
            .iter()
            .filter_map(|set| first(&outside(set, &self.not_groups)))
            .collect();
        if gids.is_empty() {
            gids.extend(first(&outside(&[0..=LAST_GID], &self.not_groups)));
        }
        gids
    }

    /// Whether the groups of a bind are in the region.
    pub(super) fn has_groups(&self, bind: &Bind<'_>) -> bool {
        let has = |ids: &Gids, id: u32| ids.iter().any(|range| range.contains(&id));
        let any = |ids: &Gids| bind.gids.iter().any(|gid| has(ids, *gid));
        self.groups.iter().all(|set| any(set)) && !any(&self.not_groups)
    }

    /// Whether a caller can have a gid of each of `groups` and none of `not_groups`. Each caller has some gid.
    fn has_callers(groups: &[Rc<Gids>], not_groups: &Gids) -> bool {
        let some = |set: &Gids| !outside(set, not_groups).is_empty();
        groups.iter().all(|set| some(set)) && some(&vec![0..=LAST_GID])
    }

    /// Splits the region: what `mask` matches goes to `matched`, the remainder to `rest`.
    pub(super) fn cut(
        self,
        atoms: &UserAtoms,
        mask: &RuleMask<'a>,
        matched: &mut Vec<Self>,
        rest: &mut Vec<Self>,
        budget: &mut Budget,
    ) -> Result<(), SpaceError> {
        if self.cgroups.is_disjoint(&mask.cgroups) || self.addresses.is_disjoint(&mask.addresses) {
            rest.push(self);
            return Ok(());
        }
        let denies = mask.rule.action == portguard_common::Verdict::Deny;
        let users = atoms.cut(&self.users, mask.users.as_ref(), denies, budget)?;
        let groups = self.groups_with(mask);
        let (Some((users_in, users_out)), Some(groups)) = (users, groups) else {
            rest.push(self);
            return Ok(());
        };
        budget.take(Budget::CUT + self.cgroups.len() / 64 + self.addresses.len() / 64)?;
        let mut part = self;
        part.cut_atoms(mask, Part::Cgroups, rest);
        part.cut_atoms(mask, Part::Addresses, rest);
        part.cut_groups(mask, groups, rest);
        let each = |users: Vec<Users>, out: &mut Vec<Self>| {
            out.extend(users.into_iter().map(|users| Self {
                users,
                ..part.clone()
            }));
        };
        each(users_in, matched);
        each(users_out, rest);
        Ok(())
    }

    /// The groups of the part that the rule matches; `None` where it matches nothing.
    fn groups_with(&self, mask: &RuleMask<'_>) -> Option<Rc<Vec<Rc<Gids>>>> {
        let Some(gids) = &mask.groups else {
            return Some(Rc::clone(&self.groups));
        };
        let mut groups = (*self.groups).clone();
        groups.push(Rc::new(gids.clone()));
        Self::has_callers(&groups, &self.not_groups).then(|| Rc::new(groups))
    }

    fn cut_groups(&mut self, mask: &RuleMask<'a>, groups: Rc<Vec<Rc<Gids>>>, rest: &mut Vec<Self>) {
        let Some(gids) = &mask.groups else {
            return;
        };
        let not_groups = merged(&[self.not_groups.as_slice(), gids].concat());
        if !Self::has_callers(&self.groups, &not_groups) {
            return;
        }
        rest.push(Self {
            not_groups: Rc::new(not_groups),
            cuts: self.cuts.with(false, Part::Groups, mask),
            ..self.clone()
        });
        self.groups = groups;
        self.cuts = self.cuts.with(true, Part::Groups, mask);
    }

    fn cut_atoms(&mut self, mask: &RuleMask<'a>, part: Part, rest: &mut Vec<Self>) {
        let mine = self.atoms(part);
        let theirs = part.of_mask(mask);
        if mine.is_subset(theirs) {
            return;
        }
        let mut inside = (**mine).clone();
        let mut outside = inside.clone();
        inside.intersect_with(theirs);
        outside.difference_with(theirs);
        let mut other = self.clone();
        *other.atoms_mut(part) = Rc::new(outside);
        other.cuts = self.cuts.with(false, part, mask);
        rest.push(other);
        *self.atoms_mut(part) = Rc::new(inside);
        self.cuts = self.cuts.with(true, part, mask);
    }
}

/// What joined regions have in common: everything except one set of users.
type Key = (
    Rc<Vec<Rc<Gids>>>,
    Rc<Gids>,
    Rc<FixedBitSet>,
    Rc<FixedBitSet>,
    Option<Rc<FixedBitSet>>,
);

/// Joins regions that differ in one set of users only: a rule that matches a part of a thousand regions with one
/// caller each matches one part of a joined region.
pub(super) fn joined(regions: Vec<Region<'_>>) -> Vec<Region<'_>> {
    if regions.len() < 2 {
        return regions;
    }
    let by_effective = join(regions, |users| match users {
        Users::Same(_) => None,
        Users::Mixed(_, effective) => Some(Rc::clone(effective)),
    });
    join(by_effective, |users| match users {
        Users::Same(_) => None,
        Users::Mixed(real, _) => Some(Rc::clone(real)),
    })
}

fn join<'a>(
    regions: Vec<Region<'a>>,
    shared: impl Fn(&Users) -> Option<Rc<FixedBitSet>>,
) -> Vec<Region<'a>> {
    let mut at: HashMap<Key, usize> = HashMap::new();
    let mut out: Vec<Region<'a>> = Vec::new();
    for region in regions {
        let key = (
            Rc::clone(&region.groups),
            Rc::clone(&region.not_groups),
            Rc::clone(&region.cgroups),
            Rc::clone(&region.addresses),
            shared(&region.users),
        );
        match at.get(&key).and_then(|known| out.get_mut(*known)) {
            Some(known) => known.users.add(&region.users),
            None => {
                at.insert(key, out.len());
                out.push(region);
            }
        }
    }
    out
}
