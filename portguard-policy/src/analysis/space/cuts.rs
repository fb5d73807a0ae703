//! The cuts that made a region, from which its description is written.

use super::policy_view::RuleMask;
use crate::policy::Rule;
use fixedbitset::FixedBitSet;
use std::rc::Rc;

/// The dimension of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Cgroups,
    Addresses,
    Groups,
}

impl Part {
    pub(super) fn of_mask<'m>(self, mask: &'m RuleMask<'_>) -> &'m Rc<FixedBitSet> {
        match self {
            Self::Addresses => &mask.addresses,
            Self::Cgroups | Self::Groups => &mask.cgroups,
        }
    }
}

/// The cuts that made a region, the last one first.
#[derive(Clone, Default)]
pub(super) struct Cuts<'a>(Option<Rc<Cut<'a>>>);

pub(super) struct Cut<'a> {
    pub(super) inside: bool,
    pub(super) part: Part,
    pub(super) rule: &'a Rule,
    /// What the rule matches in this dimension.
    pub(super) set: Rc<FixedBitSet>,
    before: Cuts<'a>,
}

impl<'a> Cuts<'a> {
    pub(super) fn with(&self, inside: bool, part: Part, mask: &RuleMask<'a>) -> Self {
        Self(Some(Rc::new(Cut {
            inside,
            part,
            rule: mask.rule,
            set: Rc::clone(part.of_mask(mask)),
            before: self.clone(),
        })))
    }

    /// The cuts in a dimension, in the order in which they were made.
    pub(super) fn of(&self, part: Part) -> Vec<&Cut<'a>> {
        let mut cuts = Vec::new();
        let mut at = self;
        while let Some(cut) = &at.0 {
            if cut.part == part {
                cuts.push(&**cut);
            }
            at = &cut.before;
        }
        cuts.reverse();
        cuts
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        // In a loop: thousands of cuts would overflow the stack by recursion.
        let mut next = std::mem::take(&mut self.before).0;
        while let Some(mut cut) = next.and_then(|cut| Rc::try_unwrap(cut).ok()) {
            next = std::mem::take(&mut cut.before).0;
        }
    }
}
