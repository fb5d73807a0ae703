//! Callers by their real and effective uid.

use super::budget::{Budget, SpaceError};
use crate::policy::{Rule, merged};
use fixedbitset::FixedBitSet;
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Sorted ranges that do not touch.
pub type Uids = Vec<RangeInclusive<u32>>;

/// `(uid_t)-1` is no uid.
const LAST_UID: u32 = u32::MAX - 1;

/// A set of callers, by atoms; [`super::BindSpace::callers`] has their uids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Users {
    /// Real and effective uid are equal, and in this set.
    Same(Rc<FixedBitSet>),
    /// They differ: the real one is in the first set, the effective one in the second.
    Mixed(Rc<FixedBitSet>, Rc<FixedBitSet>),
}

impl Users {
    /// Adds a set of the same variant that differs in at most one of its sets of uids.
    pub(super) fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Same(mine), Self::Same(theirs)) => Rc::make_mut(mine).union_with(theirs),
            (Self::Mixed(real, effective), Self::Mixed(other_real, other_effective)) => {
                Rc::make_mut(real).union_with(other_real);
                Rc::make_mut(effective).union_with(other_effective);
            }
            _ => {}
        }
    }
}

/// Uids as ranges, first and last of each: the set, or its complement where that has fewer ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UidRanges {
    /// These.
    Are(Vec<(u32, u32)>),
    /// All but these.
    AreNot(Vec<(u32, u32)>),
}

/// A set of callers, by their uids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Real and effective uid are equal.
    Same(UidRanges),
    /// They differ: real, effective.
    Mixed(UidRanges, UidRanges),
}

/// The callers of a set that a rule matches, and the rest.
pub(super) type UserSplit = (Vec<Users>, Vec<Users>);

/// Atoms: the sets of uids that the same rules name.
pub(super) struct UserAtoms {
    sets: Vec<Uids>,
    /// The first uid of each atom, in order, and the atom.
    firsts: Vec<(u32, usize)>,
    /// The atoms of a single uid.
    single: FixedBitSet,
}

impl UserAtoms {
    pub(super) fn new<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let lists: BTreeSet<Vec<(u32, u32)>> = rules.filter_map(Rule::sorted_users).collect();
        let mut changes: Vec<(u32, bool, usize)> = Vec::new();
        for (i, list) in lists.iter().enumerate() {
            for (first, last) in list {
                changes.push((*first, true, i));
                changes.push((last + 1, false, i));
            }
        }
        changes.sort_unstable();
        let mut open: BTreeSet<usize> = BTreeSet::new();
        let mut numbers: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut sets: Vec<Uids> = Vec::new();
        let mut changes = changes.into_iter().peekable();
        let mut at = 0;
        loop {
            while let Some((_, begins, list)) = changes.next_if(|change| change.0 == at) {
                if begins {
                    open.insert(list);
                } else {
                    open.remove(&list);
                }
            }
            let next = changes.peek().map_or(u32::MAX, |change| change.0);
            if at <= LAST_UID {
                let number = *numbers
                    .entry(open.iter().copied().collect())
                    .or_insert_with(|| {
                        sets.push(Vec::new());
                        sets.len() - 1
                    });
                sets[number].push(at..=next - 1);
            }
            if changes.peek().is_none() {
                break;
            }
            at = next;
        }
        let mut single = FixedBitSet::with_capacity(sets.len());
        for (i, set) in sets.iter_mut().enumerate() {
            *set = merged(set);
            single.set(
                i,
                matches!(set.as_slice(), [one] if one.start() == one.end()),
            );
        }
        let firsts = sets.iter().enumerate();
        let mut firsts: Vec<(u32, usize)> = firsts
            .filter_map(|(i, set)| Some((*set.first()?.start(), i)))
            .collect();
        firsts.sort_unstable();
        Self {
            sets,
            firsts,
            single,
        }
    }

    /// All callers: those with equal uids, and the others.
    pub(super) fn everyone(&self) -> [Users; 2] {
        let mut all = FixedBitSet::with_capacity(self.sets.len());
        all.insert_range(..);
        let all = Rc::new(all);
        [
            Users::Same(Rc::clone(&all)),
            Users::Mixed(Rc::clone(&all), all),
        ]
    }

    /// The atoms of a rule's users; `None` where it names none.
    pub(super) fn of(&self, rule: &Rule) -> Option<Rc<FixedBitSet>> {
        let users = merged(rule.users.as_deref()?);
        let mut atoms = FixedBitSet::with_capacity(self.sets.len());
        for range in &users {
            // All of an atom is named, or nothing of it.
            let begin = self
                .firsts
                .partition_point(|(first, _)| first < range.start());
            let firsts = self.firsts.get(begin..).unwrap_or_default();
            let named = firsts.iter().take_while(|(first, _)| first <= range.end());
            named.for_each(|(_, atom)| atoms.insert(*atom));
        }
        Some(Rc::new(atoms))
    }

    /// The uids of a set of atoms.
    fn uids(&self, atoms: &FixedBitSet) -> UidRanges {
        let mut others = atoms.clone();
        others.toggle_range(..);
        let count = |atoms: &FixedBitSet| atoms.ones().map(|i| self.sets[i].len()).sum::<usize>();
        let ranges = |atoms: &FixedBitSet| {
            let all: Uids = atoms
                .ones()
                .flat_map(|i| self.sets[i].iter().cloned())
                .collect();
            let merged = merged(&all).into_iter();
            merged.map(RangeInclusive::into_inner).collect()
        };
        if count(&others) < count(atoms) {
            UidRanges::AreNot(ranges(&others))
        } else {
            UidRanges::Are(ranges(atoms))
        }
    }

    /// A key for sorting: whether the uids differ, and the first ones.
    pub(super) fn first(&self, users: &Users) -> (bool, u32, u32) {
        let first = |atoms: &FixedBitSet| {
            let all = atoms.ones().filter_map(|i| self.sets[i].first());
            all.map(|range| *range.start()).min().unwrap_or(0)
        };
        match users {
            Users::Same(atoms) => (false, first(atoms), 0),
            Users::Mixed(real, effective) => (true, first(real), first(effective)),
        }
    }

    /// The callers of a set, by their uids.
    pub(super) fn callers(&self, users: &Users) -> Callers {
        match users {
            Users::Same(uids) => Callers::Same(self.uids(uids)),
            Users::Mixed(real, effective) => Callers::Mixed(self.uids(real), self.uids(effective)),
        }
    }

    /// One caller of a set: real and effective uid.
    pub(super) fn example(&self, users: &Users) -> (u32, u32) {
        let uids = |atoms: &FixedBitSet| {
            let all = atoms.ones().flat_map(|i| &self.sets[i]);
            all.flat_map(|range| range.clone().take(2))
                .take(2)
                .collect::<Vec<u32>>()
        };
        match users {
            Users::Same(atoms) => {
                let uid = uids(atoms).first().copied().unwrap_or(0);
                (uid, uid)
            }
            Users::Mixed(real, effective) => {
                let (real, effective) = (uids(real), uids(effective));
                let pairs = real
                    .iter()
                    .flat_map(|uid| effective.iter().map(move |euid| (*uid, *euid)));
                // The set is not empty, so two uids of each side contain a pair that differs.
                pairs
                    .into_iter()
                    .find(|(uid, euid)| uid != euid)
                    .unwrap_or((0, 0))
            }
        }
    }

    /// Whether a set has a caller.
    pub(super) fn has(&self, users: &Users, uid: u32, euid: u32) -> bool {
        let has = |atoms: &FixedBitSet, uid: u32| {
            atoms
                .ones()
                .any(|i| self.sets[i].iter().any(|range| range.contains(&uid)))
        };
        match users {
            Users::Same(atoms) => uid == euid && has(atoms, uid),
            Users::Mixed(real, effective) => uid != euid && has(real, uid) && has(effective, euid),
        }
    }

    /// Whether two sets contain a pair of different uids.
    fn has_a_pair(&self, real: &FixedBitSet, effective: &FixedBitSet) -> bool {
        let (mut reals, mut effectives) = (real.ones(), effective.ones());
        match (reals.next(), effectives.next()) {
            (Some(one), Some(other)) => {
                one != other
                    || !self.single.contains(one)
                    || reals.next().is_some()
                    || effectives.next().is_some()
            }
            _ => false,
        }
    }

    /// Splits a set by the users of a rule; `None` where the rule matches none of it.
    pub(super) fn cut(
        &self,
        of: &Users,
        users: Option<&Rc<FixedBitSet>>,
        denies: bool,
        budget: &mut Budget,
    ) -> Result<Option<UserSplit>, SpaceError> {
        let Some(users) = users else {
            return Ok(Some((vec![of.clone()], Vec::new())));
        };
        match of {
            Users::Same(atoms) if atoms.is_disjoint(users) => Ok(None),
            Users::Same(atoms) => {
                budget.take(self.sets.len() / 64)?;
                let some =
                    |atoms: FixedBitSet| (!atoms.is_clear()).then(|| Users::Same(Rc::new(atoms)));
                Ok(Some((
                    some(common(atoms, users)).into_iter().collect(),
                    some(outside(atoms, users)).into_iter().collect(),
                )))
            }
            Users::Mixed(real, effective) => {
                let cut = self.cut_mixed(real, effective, users, denies);
                budget.take(cut.iter().count() * self.sets.len() / 32)?;
                Ok(cut)
            }
        }
    }

    /// A deny rule matches callers by either uid, other rules match by both.
    fn cut_mixed(
        &self,
        real: &Rc<FixedBitSet>,
        effective: &Rc<FixedBitSet>,
        users: &FixedBitSet,
        denies: bool,
    ) -> Option<UserSplit> {
        let (no_real, no_effective) = (real.is_disjoint(users), effective.is_disjoint(users));
        if denies && no_real && no_effective || !denies && (no_real || no_effective) {
            return None;
        }
        // An unchanged set is shared, not copied.
        let parts = |atoms: &Rc<FixedBitSet>, untouched: bool| match untouched {
            true => (Rc::default(), Rc::clone(atoms)),
            false => (
                Rc::new(common(atoms, users)),
                Rc::new(outside(atoms, users)),
            ),
        };
        let (real_in, real_out) = parts(real, no_real);
        let (effective_in, effective_out) = parts(effective, no_effective);
        let pairs = |all: &[(&Rc<FixedBitSet>, &Rc<FixedBitSet>)]| -> Vec<Users> {
            let some = all
                .iter()
                .filter(|(real, effective)| self.has_a_pair(real, effective));
            some.map(|(real, effective)| Users::Mixed(Rc::clone(real), Rc::clone(effective)))
                .collect()
        };
        let (matched, rest) = if denies {
            (
                pairs(&[(&real_in, effective), (&real_out, &effective_in)]),
                pairs(&[(&real_out, &effective_out)]),
            )
        } else {
            (
                pairs(&[(&real_in, &effective_in)]),
                pairs(&[(&real_out, effective), (&real_in, &effective_out)]),
            )
        };
        (!matched.is_empty()).then_some((matched, rest))
    }
}

fn common(a: &FixedBitSet, b: &FixedBitSet) -> FixedBitSet {
    let mut both = a.clone();
    both.intersect_with(b);
    both
}

fn outside(a: &FixedBitSet, b: &FixedBitSet) -> FixedBitSet {
    let mut rest = a.clone();
    rest.difference_with(b);
    rest
}
