//! Callers by their two uids.

use super::{Budget, SpaceError};
use crate::policy::{common, outside};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Ranges in order, none touching another.
pub type Uids = Vec<RangeInclusive<u32>>;

/// A set of callers. `(uid_t)-1` is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Users {
    /// Real and effective uid are the same, and in here.
    Same(Rc<Uids>),
    /// They differ: the real one is in the first set, the effective one in the second.
    Mixed(Rc<Uids>, Rc<Uids>),
}

impl Users {
    /// Everyone: those with one uid, and the others.
    #[must_use]
    pub fn everyone() -> [Self; 2] {
        let all: Rc<Uids> = Rc::new(vec![0..=u32::MAX - 1]);
        [
            Self::Same(Rc::clone(&all)),
            Self::Mixed(Rc::clone(&all), all),
        ]
    }

    /// One caller of the set: real and effective uid.
    #[must_use]
    pub fn example(&self) -> (u32, u32) {
        let first = |uids: &Uids| uids.first().map_or(0, |range| *range.start());
        match self {
            Self::Same(uids) => (first(uids), first(uids)),
            Self::Mixed(real, effective) => {
                let (uid, euid) = (first(real), first(effective));
                if uid != euid {
                    return (uid, euid);
                }
                // One of both has another; else the set would be empty.
                match (second(real), second(effective)) {
                    (_, Some(other)) => (uid, other),
                    (Some(other), None) => (other, euid),
                    (None, None) => (uid, euid),
                }
            }
        }
    }

    /// What the users of a rule take, and what they leave; `None` where they take nothing.
    pub(super) fn cut(
        &self,
        users: Option<&Uids>,
        denies: bool,
        budget: &mut Budget,
    ) -> Result<Option<(Vec<Self>, Vec<Self>)>, SpaceError> {
        let Some(users) = users else {
            return Ok(Some((vec![self.clone()], Vec::new())));
        };
        match self {
            Self::Same(uids) => {
                budget.take(overlap_cost(uids, users))?;
                let taken = common(uids, users);
                if taken.is_empty() {
                    return Ok(None);
                }
                budget.take(uids.len())?;
                let left = outside(uids, users);
                let some = |uids: Uids| (!uids.is_empty()).then(|| Self::Same(Rc::new(uids)));
                Ok(Some((
                    some(taken).into_iter().collect(),
                    some(left).into_iter().collect(),
                )))
            }
            Self::Mixed(real, effective) => mixed(real, effective, users, denies, budget),
        }
    }
}

/// A rule that denies takes callers by either uid, the others take those with both.
fn mixed(
    real: &Rc<Uids>,
    effective: &Rc<Uids>,
    users: &Uids,
    denies: bool,
    budget: &mut Budget,
) -> Result<Option<(Vec<Users>, Vec<Users>)>, SpaceError> {
    budget.take(overlap_cost(real, users) + overlap_cost(effective, users))?;
    let real_in = Rc::new(common(real, users));
    let effective_in = Rc::new(common(effective, users));
    let nothing = if denies {
        real_in.is_empty() && effective_in.is_empty()
    } else {
        real_in.is_empty() || effective_in.is_empty()
    };
    if nothing {
        return Ok(None);
    }
    budget.take(real.len() + effective.len())?;
    let real_out = Rc::new(outside(real, users));
    let effective_out = Rc::new(outside(effective, users));
    let pairs = |all: [(&Rc<Uids>, &Rc<Uids>); 2]| -> Vec<Users> {
        let some = all
            .into_iter()
            .filter(|(real, effective)| has_a_pair(real, effective));
        some.map(|(real, effective)| Users::Mixed(Rc::clone(real), Rc::clone(effective)))
            .collect()
    };
    let none = Rc::default();
    let (taken, left) = if denies {
        (
            pairs([(&real_in, effective), (&real_out, &effective_in)]),
            pairs([(&real_out, &effective_out), (&none, &none)]),
        )
    } else {
        (
            pairs([(&real_in, &effective_in), (&none, &none)]),
            pairs([(&real_out, effective), (&real_in, &effective_out)]),
        )
    };
    Ok((!taken.is_empty()).then_some((taken, left)))
}

/// Whether two different uids can be taken from two sets.
fn has_a_pair(real: &Uids, effective: &Uids) -> bool {
    match (real.first(), effective.first()) {
        (Some(one), Some(other)) => {
            one.start() != other.start() || second(real).is_some() || second(effective).is_some()
        }
        _ => false,
    }
}

/// The second uid of a set.
fn second(uids: &Uids) -> Option<u32> {
    let first = uids.first()?;
    if first.start() < first.end() {
        return Some(first.start() + 1);
    }
    uids.get(1).map(|range| *range.start())
}

/// Steps of finding what two lists have in common.
fn overlap_cost(a: &Uids, b: &Uids) -> usize {
    1 + a.len().min(b.len())
}
