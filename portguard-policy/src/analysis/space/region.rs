//! A region: all combinations of some users, groups, cgroups and addresses.

use super::display::{Part, Words};
use super::policy_view::RuleMask;
use super::users::{UserAtoms, Users};
use super::{Budget, SpaceError};
use crate::compile::Bind;
use crate::policy::{merged, outside};
use fixedbitset::FixedBitSet;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// A region of the binds of some ports; never empty.
#[derive(Clone)]
pub struct Region<'a> {
    /// The callers.
    pub users: Users,
    /// Of each of these sets of gids the caller has one.
    pub(super) groups: Rc<Vec<Rc<Gids>>>,
    /// Of these he has none.
    pub(super) not_groups: Rc<Gids>,
    pub(super) cgroups: Rc<FixedBitSet>,
    pub(super) addresses: Rc<FixedBitSet>,
    /// The cuts that made the region, for people to read.
    pub(super) words: Words<'a>,
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
            words: Words::default(),
        };
        users.map(region).into()
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

    /// Whether the groups of a bind are of the region.
    pub(super) fn has_groups(&self, bind: &Bind<'_>) -> bool {
        let has = |ids: &Gids, id: u32| ids.iter().any(|range| range.contains(&id));
        let any = |ids: &Gids| bind.gids.iter().any(|gid| has(ids, *gid));
        self.groups.iter().all(|set| any(set)) && !any(&self.not_groups)
    }

    /// Whether a caller can have one of each of `groups` and none of `not_groups`; everyone has some gid.
    fn has_callers(groups: &[Rc<Gids>], not_groups: &Gids) -> bool {
        let some = |set: &Gids| !outside(set, not_groups).is_empty();
        groups.iter().all(|set| some(set)) && some(&vec![0..=LAST_GID])
    }

    /// Moves what `shape` takes of this region to `taken`, what it leaves to `left`.
    pub(super) fn cut(
        self,
        atoms: &UserAtoms,
        shape: &RuleMask<'a>,
        taken: &mut Vec<Self>,
        left: &mut Vec<Self>,
        budget: &mut Budget,
    ) -> Result<(), SpaceError> {
        if self.cgroups.is_disjoint(&shape.cgroups) || self.addresses.is_disjoint(&shape.addresses)
        {
            left.push(self);
            return Ok(());
        }
        let denies = shape.rule.action == portguard_common::Verdict::Deny;
        let users = atoms.cut(&self.users, shape.users.as_ref(), denies, budget)?;
        let groups = self.groups_with(shape);
        let (Some((users_in, users_out)), Some(groups)) = (users, groups) else {
            left.push(self);
            return Ok(());
        };
        budget.take(Budget::CUT + self.cgroups.len() / 64 + self.addresses.len() / 64)?;
        let mut rest = self;
        rest.cut_atoms(shape, Part::Cgroups, left);
        rest.cut_atoms(shape, Part::Addresses, left);
        rest.cut_groups(shape, groups, left);
        let each = |users: Vec<Users>, out: &mut Vec<Self>| {
            out.extend(users.into_iter().map(|users| Self {
                users,
                ..rest.clone()
            }));
        };
        each(users_in, taken);
        each(users_out, left);
        Ok(())
    }

    /// The groups of the part that the rule takes; `None` where it takes nothing.
    fn groups_with(&self, shape: &RuleMask<'_>) -> Option<Rc<Vec<Rc<Gids>>>> {
        let Some(gids) = &shape.groups else {
            return Some(Rc::clone(&self.groups));
        };
        let mut groups = (*self.groups).clone();
        groups.push(Rc::new(gids.clone()));
        Self::has_callers(&groups, &self.not_groups).then(|| Rc::new(groups))
    }

    fn cut_groups(
        &mut self,
        shape: &RuleMask<'a>,
        groups: Rc<Vec<Rc<Gids>>>,
        left: &mut Vec<Self>,
    ) {
        let Some(gids) = &shape.groups else {
            return;
        };
        let not_groups = merged(&[self.not_groups.as_slice(), gids].concat());
        if !Self::has_callers(&self.groups, &not_groups) {
            return;
        }
        left.push(Self {
            not_groups: Rc::new(not_groups),
            words: self.words.with(false, Part::Groups, shape),
            ..self.clone()
        });
        self.groups = groups;
        self.words = self.words.with(true, Part::Groups, shape);
    }

    fn cut_atoms(&mut self, shape: &RuleMask<'a>, part: Part, left: &mut Vec<Self>) {
        let mine = part.atoms(self);
        let theirs = part.of_shape(shape);
        if mine.is_subset(theirs) {
            return;
        }
        let mut inside = (**mine).clone();
        let mut outside = inside.clone();
        inside.intersect_with(theirs);
        outside.difference_with(theirs);
        let mut other = self.clone();
        *part.atoms_mut(&mut other) = Rc::new(outside);
        other.words = self.words.with(false, part, shape);
        left.push(other);
        *part.atoms_mut(self) = Rc::new(inside);
        self.words = self.words.with(true, part, shape);
    }
}

/// What regions that are joined have in common: all but one set of users.
type Key = (
    Rc<Vec<Rc<Gids>>>,
    Rc<Gids>,
    Rc<FixedBitSet>,
    Rc<FixedBitSet>,
    Option<Rc<FixedBitSet>>,
);

/// The regions, those that differ in one set of users alone made one: a rule that takes a part of each of a
/// thousand callers takes one part of all of them.
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
