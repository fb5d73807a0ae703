//! Equivalence classes: values that the same rules match share a class, and a class has one vector.

use super::error::CompileError;
use crate::policy::Rule;
use foldhash::fast::RandomState;
use portguard_common::{
    MAX_CLASSES, Protocol, VECTOR_WORDS, Verdict, WORDS_PER_MASK, class_number,
};
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

/// A set of rules, one bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct RuleSet(Box<[u64]>);

impl RuleSet {
    /// The empty set, with room for `rules` rules.
    pub(super) fn empty(rules: usize) -> Self {
        Self(vec![0; rules.div_ceil(64)].into())
    }

    pub(super) fn insert(&mut self, rule: usize) {
        self.0[rule / 64] |= 1 << (rule % 64);
    }

    /// The set with all enforced `deny` rules: those that hold wherever they could match.
    pub(super) fn and_denials(mut self, rules: &[Rule]) -> Self {
        for (i, rule) in rules.iter().enumerate() {
            if rule.action == Verdict::Deny && !rule.audit {
                self.insert(i);
            }
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The rules, in order.
    fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(i, word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| i * 64 + bit)
        })
    }

    fn remove(&mut self, rule: usize) {
        self.0[rule / 64] &= !(1 << (rule % 64));
    }

    /// The set as a vector: the summary, a bit for each word that is not zero, and the words.
    pub(super) fn vector(&self) -> [u64; VECTOR_WORDS] {
        let mut vector = [0; VECTOR_WORDS];
        for (i, word) in self.0.iter().enumerate().take(WORDS_PER_MASK) {
            vector[0] |= u64::from(*word != 0) << i;
            vector[i + 1] = *word;
        }
        vector
    }
}

/// Distinct rule sets, numbered.
pub(super) struct Classes {
    numbers: HashMap<RuleSet, usize, RandomState>,
    sets: Vec<RuleSet>,
}

impl Classes {
    pub(super) fn new() -> Self {
        Self {
            numbers: HashMap::default(),
            sets: Vec::new(),
        }
    }

    /// The class of a set.
    pub(super) fn number(&mut self, set: &RuleSet) -> usize {
        if let Some(number) = self.numbers.get(set) {
            return *number;
        }
        let number = self.push(set.clone());
        self.numbers.insert(set.clone(), number);
        number
    }

    /// Adds a set under a new number, even if an equal one exists.
    pub(super) fn push(&mut self, set: RuleSet) -> usize {
        self.sets.push(set);
        class_number(self.sets.len() - 1)
    }

    /// Fails where there are more classes of `what` than 16 bits can number.
    pub(super) fn check(&self, what: &'static str) -> Result<(), CompileError> {
        if self.sets.len() > MAX_CLASSES {
            return Err(CompileError::TooManyClasses(self.sets.len(), what));
        }
        Ok(())
    }

    pub(super) fn sets(&self) -> &[RuleSet] {
        &self.sets
    }
}

/// The rules that match from a value up to the next interval.
pub(super) struct Interval<T> {
    pub(super) start: T,
    pub(super) rules: RuleSet,
}

/// Splits the values from 0 to `last` at the ends of all rules' ranges. `None` matches everything.
fn intervals<'a>(
    last: u64,
    count: usize,
    rules: impl Iterator<Item = (usize, Option<Vec<(u64, u64)>>)> + 'a,
) -> Vec<Interval<u64>> {
    // Ranges of a rule may overlap. A counter tells when the last open one ends.
    let mut changes: Vec<(u64, usize, i32)> = Vec::new();
    for (rule, ranges) in rules {
        for (low, high) in ranges.unwrap_or_else(|| vec![(0, last)]) {
            changes.push((low, rule, 1));
            if high < last {
                changes.push((high + 1, rule, -1));
            }
        }
    }
    changes.sort_unstable();
    let mut open = vec![0i32; count];
    let mut set = RuleSet::empty(count);
    let mut out = Vec::new();
    let mut at = 0;
    let mut next = changes.iter().peekable();
    loop {
        while let Some((_, rule, step)) = next.next_if(|change| change.0 == at) {
            open[*rule] += step;
            if open[*rule] > 0 {
                set.insert(*rule);
            } else {
                set.remove(*rule);
            }
        }
        match out.last() {
            Some(Interval { rules, .. }) if *rules == set => {}
            _ => out.push(Interval {
                start: at,
                rules: set.clone(),
            }),
        }
        match next.peek() {
            Some(change) => at = change.0,
            None => return out,
        }
    }
}

/// The enforced `deny` rules that name users: those that an owner could be one of.
pub(super) fn enforced_denials_by_user(rules: &[Rule]) -> RuleSet {
    let mut set = RuleSet::empty(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        if rule.action == Verdict::Deny && !rule.audit && rule.users.is_some() {
            set.insert(i);
        }
    }
    set
}

/// The user intervals over all uids; the first starts at 0.
pub(super) fn users(rules: &[Rule]) -> Vec<Interval<u64>> {
    intervals(
        u64::from(u32::MAX),
        rules.len(),
        rules.iter().enumerate().map(|(i, rule)| {
            let ranges = rule.users.as_ref().map(|users| {
                let wide = |r: &RangeInclusive<u32>| (u64::from(*r.start()), u64::from(*r.end()));
                users.iter().map(wide).collect()
            });
            (i, ranges)
        }),
    )
}

/// The group intervals over all gids; rules that name no group are in none.
pub(super) fn groups(rules: &[Rule]) -> Vec<Interval<u64>> {
    intervals(
        u64::from(u32::MAX),
        rules.len(),
        rules.iter().enumerate().map(|(i, rule)| {
            let groups = rule.groups.iter().flatten();
            let wide = |r: &RangeInclusive<u32>| (u64::from(*r.start()), u64::from(*r.end()));
            (i, Some(groups.map(wide).collect()))
        }),
    )
}

/// The port intervals for one protocol.
pub(super) fn ports(rules: &[Rule], protocol: Protocol) -> Vec<Interval<u64>> {
    intervals(
        u64::from(u16::MAX),
        rules.len(),
        rules
            .iter()
            .enumerate()
            .filter(move |(_, rule)| rule.is_for(protocol))
            .map(|(i, rule)| {
                let ranges = rule.ports.as_ref().map(|ports| {
                    let wide =
                        |r: &RangeInclusive<u16>| (u64::from(*r.start()), u64::from(*r.end()));
                    ports.iter().map(wide).collect()
                });
                (i, ranges)
            }),
    )
}

/// The intervals of ports: the first port of each, and the numbers of the rules that match there.
pub(crate) fn ports_of_rules(rules: &[Rule], protocol: Protocol) -> Vec<(u16, Vec<usize>)> {
    let intervals = ports(rules, protocol).into_iter();
    intervals
        .map(|interval| (interval.start as u16, interval.rules.iter().collect()))
        .collect()
}

/// Distinct entries of all `users` lists.
pub(super) fn distinct_users(rules: &[Rule]) -> usize {
    rules
        .iter()
        .flat_map(|rule| rule.users.iter().flatten())
        .map(|range| (*range.start(), *range.end()))
        .collect::<BTreeSet<_>>()
        .len()
}
