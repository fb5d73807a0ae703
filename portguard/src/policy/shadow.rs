//! Rules that can never decide: all their cases are taken by earlier rules, or lie outside `protect`.
//!
//! A rule is a box: a set of values in each dimension. Earlier rules are cut out of it piece by piece;
//! nothing left means that it never decides. The pieces may grow, so the work has a budget: where that
//! runs out the rule is taken to be alive, and no wrong warning is given.

use super::model::{CgroupPath, Policy, Rule};
use portguard_common::{Protocol, Verdict};
use std::ops::RangeInclusive;

/// Pieces looked at for all rules of a policy together.
const BUDGET: usize = 2_000_000;

/// The cases of a rule that are still open.
#[derive(Clone)]
struct Piece<'a> {
    ports: Vec<RangeInclusive<u16>>,
    protocols: [bool; 4],
    /// `None`: all users.
    users: Option<Vec<RangeInclusive<u32>>>,
    /// `None`: all cgroups.
    cgroups: Option<Vec<&'a CgroupPath>>,
}

/// Rules to warn about, by number.
pub(super) fn warnings(policy: &Policy) -> Vec<(usize, String)> {
    let mut budget = BUDGET;
    let mut found = Vec::new();
    for (i, rule) in policy.rules.iter().enumerate() {
        let piece = Piece::of(rule, &policy.protect);
        if piece.ports.is_empty() {
            let message = format!(
                "rule `{}` never decides: none of its ports is in `protect`",
                rule.name
            );
            found.push((i, message));
        } else if let Some(last) = taker(&piece, rule, &policy.rules[..i], &mut budget) {
            let message = format!(
                "rule `{}` never decides: earlier rules, the last of them `{}`, take all its cases",
                rule.name, policy.rules[last].name
            );
            found.push((i, message));
        }
    }
    found
}

/// The earlier rule that takes the last case of `rule`, where all are taken.
fn taker(whole: &Piece<'_>, rule: &Rule, earlier: &[Rule], budget: &mut usize) -> Option<usize> {
    let mut open = vec![whole.clone()];
    for (i, other) in earlier.iter().enumerate() {
        let mut left = Vec::new();
        for piece in open {
            *budget = budget.checked_sub(1)?;
            piece.without(other, rule.action, &mut left);
        }
        if left.is_empty() {
            return Some(i);
        }
        open = left;
    }
    None
}

impl<'a> Piece<'a> {
    fn of(rule: &'a Rule, protect: &[RangeInclusive<u16>]) -> Self {
        let all = [1..=u16::MAX];
        let ports = rule.ports.as_deref().unwrap_or(&all);
        Self {
            ports: common(&merged(ports), &merged(protect)),
            protocols: Protocol::ALL.map(|protocol| names(rule, protocol)),
            users: rule.users.as_deref().map(merged),
            cgroups: rule.cgroups.as_ref().map(|paths| paths.iter().collect()),
        }
    }

    /// Adds to `left` what `other` does not take of this piece of a rule with `action`.
    fn without(self, other: &Rule, action: Verdict, left: &mut Vec<Self>) {
        if !takes_users(other, &self, action) || !takes_cgroups(other, &self) {
            left.push(self);
            return;
        }
        let theirs = Protocol::ALL.map(|protocol| names(other, protocol));
        let ports = match &other.ports {
            Some(ports) => outside(&self.ports, &merged(ports)),
            None => Vec::new(),
        };
        let mut other_protocols = self.protocols;
        let mut shared = self.protocols;
        for i in 0..4 {
            other_protocols[i] &= !theirs[i];
            shared[i] &= theirs[i];
        }
        if other_protocols.contains(&true) {
            left.push(Self {
                protocols: other_protocols,
                ..self.clone()
            });
        }
        if !ports.is_empty() && shared.contains(&true) {
            left.push(Self {
                ports,
                protocols: shared,
                ..self
            });
        }
    }
}

fn names(rule: &Rule, protocol: Protocol) -> bool {
    rule.protocols
        .as_ref()
        .is_none_or(|named| named.contains(&protocol))
}

/// Whether `other` matches every user of the piece.
///
/// An `allow` or `kernel` rule looks at both uids, a `deny` rule at either: a `deny` rule has cases
/// with a foreign uid beside its own, which only an earlier `deny` or a rule for everyone takes.
fn takes_users(other: &Rule, piece: &Piece<'_>, action: Verdict) -> bool {
    let Some(theirs) = &other.users else {
        return true;
    };
    let Some(ours) = &piece.users else {
        return outside(&[0..=u32::MAX - 1], &merged(theirs)).is_empty();
    };
    if action == Verdict::Deny && other.action != Verdict::Deny {
        return false;
    }
    outside(ours, &merged(theirs)).is_empty()
}

fn takes_cgroups(other: &Rule, piece: &Piece<'_>) -> bool {
    let Some(theirs) = &other.cgroups else {
        return true;
    };
    let within = |path: &CgroupPath| theirs.iter().any(|their| path.0.starts_with(&their.0));
    match &piece.cgroups {
        Some(ours) => ours.iter().all(|path| within(path)),
        None => theirs.iter().any(|their| their.0.is_empty()),
    }
}

/// Numbers that ranges are made of.
trait Number: Copy + Ord {
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;
}

impl Number for u16 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Number for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

/// The ranges in order, those that touch made one.
fn merged<T: Number>(ranges: &[RangeInclusive<T>]) -> Vec<RangeInclusive<T>> {
    let mut sorted: Vec<_> = ranges
        .iter()
        .map(|range| (*range.start(), *range.end()))
        .collect();
    sorted.sort_unstable();
    let mut out: Vec<RangeInclusive<T>> = Vec::new();
    for (start, end) in sorted {
        match out.last_mut() {
            Some(last) if last.end().next().is_none_or(|next| start <= next) => {
                *last = *last.start()..=end.max(*last.end());
            }
            _ => out.push(start..=end),
        }
    }
    out
}

/// What two lists of merged ranges share.
fn common<T: Number>(a: &[RangeInclusive<T>], b: &[RangeInclusive<T>]) -> Vec<RangeInclusive<T>> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    pairs
        .map(|(x, y)| *x.start().max(y.start())..=*x.end().min(y.end()))
        .filter(|range| range.start() <= range.end())
        .collect()
}

/// What of `a` lies outside `b`, both merged.
fn outside<T: Number>(a: &[RangeInclusive<T>], b: &[RangeInclusive<T>]) -> Vec<RangeInclusive<T>> {
    let mut out = Vec::new();
    for range in a {
        let mut start = Some(*range.start());
        // Merged ranges are in order: those that end before this one are passed over at once.
        let first = b.partition_point(|cut| cut.end() < range.start());
        for cut in b[first..]
            .iter()
            .take_while(|cut| cut.start() <= range.end())
        {
            if let (Some(from), Some(to)) = (start, cut.start().previous())
                && from <= to
            {
                out.push(from..=to);
            }
            start = cut.end().next();
        }
        if let Some(from) = start
            && from <= *range.end()
        {
            out.push(from..=*range.end());
        }
    }
    out
}
