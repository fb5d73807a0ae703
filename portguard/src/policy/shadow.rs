//! Rules that can never decide: all their cases are taken by earlier rules, or lie outside `protect`.
//!
//! A rule is a box: a set of values in each dimension. Earlier rules are cut out of it piece by piece;
//! nothing left means that it never decides. The pieces may grow, so the work has a budget: where that
//! runs out, a rule is only held against each earlier one alone, and in the end taken to be alive. So
//! a warning may be missing, but none is wrong.

use super::model::{Component, Policy, Rule, UnitPattern};
use super::ranges::{common, merged, outside, within};
use ipnet::IpNet;
use portguard_common::{Protocol, Verdict};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Steps of cutting for all rules of a policy together.
const CUTS: usize = 24_000_000;
/// Steps of cutting for one rule: one that takes more leaves the rest to the others.
const CUTS_OF_ONE: usize = 1_000_000;
/// Steps of comparing rules one with one, where cutting has been given up.
const PAIRS: usize = 24_000_000;

type Ports = Vec<RangeInclusive<u16>>;
type Uids = Vec<RangeInclusive<u32>>;

/// A rule, its lists in order.
struct Shape<'a> {
    action: Verdict,
    ports: Ports,
    /// A bit for each.
    protocols: u8,
    /// `None`: all users.
    users: Option<Uids>,
    /// A rule for a cgroup holds for all below it, so each stands for its whole subtree: what takes the
    /// cgroup itself takes all below, and what takes something below never takes the cgroup itself. A path
    /// with `*` is taken by the same path alone.
    cgroups: Vec<&'a [Component]>,
    /// The fields that are not cut: a rule takes cases only of rules that have the same of them.
    rest: Rest<'a>,
}

/// `groups`, `units` and `addresses` as they stand.
#[derive(Clone, Copy)]
struct Rest<'a> {
    denies: bool,
    groups: Option<&'a [RangeInclusive<u32>]>,
    units: Option<&'a [UnitPattern]>,
    addresses: Option<&'a [IpNet]>,
}

impl Rest<'_> {
    /// A `deny` rule takes a bind of two addresses by either, the others only by both.
    fn takes_addresses(&self, other: &Self) -> bool {
        self.addresses == other.addresses && (self.denies || !other.denies)
    }

    /// Whether a rule with these takes what it can of one with `other`.
    fn takes(&self, other: &Self) -> bool {
        (self.groups.is_none() || self.groups == other.groups)
            && (self.units.is_none() || self.units == other.units)
            && (self.addresses.is_none() || self.takes_addresses(other))
    }
}

/// The cases of a rule that are still open.
#[derive(Clone)]
struct Piece<'a> {
    ports: Rc<Ports>,
    protocols: u8,
    users: Pairs,
    cgroups: Rc<Vec<&'a [Component]>>,
    rest: Rest<'a>,
}

/// Pairs of real and effective uid: both are in `both`, and one at least is in `one`, a part of `both`.
///
/// For `allow` and `kernel` rules, which look at both uids, the two sets are the same; for `deny` rules,
/// which look at either, `both` is everyone: they have cases with one foreign uid.
#[derive(Clone)]
struct Pairs {
    both: Rc<Uids>,
    one: Rc<Uids>,
}

/// What is left of a set of pairs.
enum Left {
    All,
    Some(Pairs),
    Nothing,
}

/// Rules to warn about, by number.
pub(super) fn warnings(policy: &Policy) -> Vec<(usize, String)> {
    let protect = merged(&policy.protect);
    let mut shapes: Vec<Shape<'_>> = Vec::with_capacity(policy.rules.len());
    let (mut cuts, mut pairs) = (CUTS, PAIRS);
    let mut found = Vec::new();
    for (i, rule) in policy.rules.iter().enumerate() {
        let shape = Shape::of(rule, &protect);
        if shape.ports.is_empty() {
            let message = format!(
                "rule `{}` never decides: none of its ports is in `protect`",
                rule.name
            );
            found.push((i, message));
        } else {
            let whole = Piece::of(&shape);
            let mut of_one = cuts.min(CUTS_OF_ONE);
            let before = of_one;
            let last = match taker(&whole, &shapes, &mut of_one) {
                Some(answer) => answer,
                None => lone_taker(&whole, &shapes, &mut pairs),
            };
            cuts -= before - of_one;
            if let Some(last) = last {
                let message = format!(
                    "rule `{}` never decides: earlier rules, the last of them `{}`, take all its cases",
                    rule.name, policy.rules[last].name
                );
                found.push((i, message));
            }
        }
        shapes.push(shape);
    }
    found
}

/// The earlier rule that takes the last case of `whole`, where all are taken; `None` where that is not
/// known within the budget.
fn taker(whole: &Piece<'_>, earlier: &[Shape<'_>], budget: &mut usize) -> Option<Option<usize>> {
    let mut open = vec![whole.clone()];
    for (i, other) in earlier.iter().enumerate() {
        // Most rules have nothing in common with most others: seen without moving a piece.
        *budget = budget.checked_sub(open.len())?;
        if !open.iter().any(|piece| piece.meets(other)) {
            continue;
        }
        let mut left = Vec::with_capacity(open.len());
        for piece in open {
            *budget = budget.checked_sub(piece.cost(other))?;
            piece.without(other, &mut left);
        }
        if left.is_empty() {
            return Some(Some(i));
        }
        open = left;
    }
    Some(None)
}

/// An earlier rule that takes all of `whole` alone.
fn lone_taker(whole: &Piece<'_>, earlier: &[Shape<'_>], budget: &mut usize) -> Option<usize> {
    for (i, other) in earlier.iter().enumerate() {
        *budget = budget.checked_sub(1)?;
        if !whole.meets(other) {
            continue;
        }
        *budget = budget.checked_sub(whole.cost(other))?;
        let alone = whole.protocols & !other.protocols == 0
            && within(&whole.ports, &other.ports)
            && whole.cgroups.iter().all(|path| other.has(path))
            && matches!(whole.users.without(other), Left::Nothing);
        if alone {
            return Some(i);
        }
    }
    None
}

impl<'a> Shape<'a> {
    fn of(rule: &'a Rule, protect: &[RangeInclusive<u16>]) -> Self {
        let ports = match &rule.ports {
            Some(ports) => common(&merged(ports), protect),
            None => protect.to_vec(),
        };
        let named = |protocol: &Protocol| {
            rule.protocols
                .as_ref()
                .is_none_or(|named| named.contains(protocol))
        };
        let bits = Protocol::ALL.iter().enumerate();
        Self {
            action: rule.action,
            ports,
            protocols: bits
                .filter(|(_, protocol)| named(protocol))
                .fold(0, |bits, (i, _)| bits | 1 << i),
            users: rule.users.as_deref().map(merged),
            cgroups: match &rule.cgroups {
                Some(paths) => paths.iter().map(|path| path.0.as_slice()).collect(),
                None => vec![&[]],
            },
            rest: Rest {
                denies: rule.action == Verdict::Deny,
                groups: rule.groups.as_deref(),
                units: rule.units.as_deref(),
                addresses: rule.addresses.as_deref(),
            },
        }
    }

    /// Whether the rule holds for a cgroup and all below it.
    fn has(&self, path: &[Component]) -> bool {
        self.cgroups.iter().any(|above| path.starts_with(above))
    }

    fn is_for(&self, ports: &Ports) -> bool {
        let (Some(first), Some(last)) = (ports.first(), ports.last()) else {
            return false;
        };
        let from = self
            .ports
            .partition_point(|port| port.end() < first.start());
        self.ports
            .get(from)
            .is_some_and(|port| port.start() <= last.end())
    }
}

impl<'a> Piece<'a> {
    fn of(shape: &Shape<'a>) -> Self {
        let everyone = || Rc::new(vec![0..=u32::MAX - 1]);
        let one = shape.users.clone().map_or_else(everyone, Rc::new);
        let both = match shape.action {
            Verdict::Deny => everyone(),
            Verdict::Allow | Verdict::Kernel => Rc::clone(&one),
        };
        Self {
            ports: Rc::new(shape.ports.clone()),
            protocols: shape.protocols,
            users: Pairs { both, one },
            cgroups: Rc::new(shape.cgroups.clone()),
            rest: shape.rest,
        }
    }

    /// Whether the two may have cases in common.
    fn meets(&self, other: &Shape<'_>) -> bool {
        self.protocols & other.protocols != 0
            && other.is_for(&self.ports)
            && other.rest.takes(&self.rest)
    }

    /// Steps that cutting takes, more or less.
    fn cost(&self, other: &Shape<'_>) -> usize {
        self.ports.len()
            + other.ports.len()
            + self.cgroups.len() * other.cgroups.len()
            + self.users.both.len()
            + self.users.one.len()
            + other.users.as_ref().map_or(0, Vec::len)
    }

    /// Adds to `left` what `other` does not take of this piece.
    fn without(self, other: &Shape<'_>, left: &mut Vec<Self>) {
        let protocols = self.protocols & other.protocols;
        let ports = common(&self.ports, &other.ports);
        let (cgroups, other_cgroups): (Vec<_>, Vec<_>) =
            self.cgroups.iter().partition(|path| other.has(path));
        if protocols == 0 || ports.is_empty() || cgroups.is_empty() {
            left.push(self);
            return;
        }
        let users = match self.users.without(other) {
            Left::All => {
                left.push(self);
                return;
            }
            Left::Some(users) => Some(users),
            Left::Nothing => None,
        };
        let other_ports = outside(&self.ports, &other.ports);
        let mut rest = self;
        if rest.protocols != protocols {
            left.push(Self {
                protocols: rest.protocols & !protocols,
                ..rest.clone()
            });
            rest.protocols = protocols;
        }
        if !other_ports.is_empty() {
            left.push(Self {
                ports: Rc::new(other_ports),
                ..rest.clone()
            });
            rest.ports = Rc::new(ports);
        }
        if !other_cgroups.is_empty() {
            left.push(Self {
                cgroups: Rc::new(other_cgroups),
                ..rest.clone()
            });
            rest.cgroups = Rc::new(cgroups);
        }
        if let Some(users) = users {
            left.push(Self { users, ..rest });
        }
    }
}

impl Pairs {
    /// What the users of `other` leave.
    fn without(&self, other: &Shape<'_>) -> Left {
        let Some(theirs) = &other.users else {
            return Left::Nothing;
        };
        let both = outside(&self.both, theirs);
        if both == *self.both {
            return Left::All;
        }
        if other.action == Verdict::Deny {
            // It takes every pair that has one of its users.
            let one = outside(&self.one, theirs);
            if one.is_empty() {
                return Left::Nothing;
            }
            return Left::Some(Self {
                both: Rc::new(both),
                one: Rc::new(one),
            });
        }
        // It takes the pairs that have no foreign uid: those with one in what is outside it are left.
        if both.is_empty() {
            Left::Nothing
        } else if within(&both, &self.one) {
            Left::Some(Self {
                both: Rc::clone(&self.both),
                one: Rc::new(both),
            })
        } else {
            // The pairs that are left have no such form; all of them is too many, which only hides a warning.
            Left::All
        }
    }
}
