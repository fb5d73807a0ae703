//! Regions in words: what a person reads of them.

use super::Region;
use super::policy_view::RuleMask;
use super::users::{Callers, UidRanges};
use crate::escape::escape;
use crate::policy::{GivenNames, Rule, ranges_text};
use crate::yaml::{AddressText, RuleEntry};
use fixedbitset::FixedBitSet;
use portguard_common::Protocol;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// What a cut was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Cgroups,
    Addresses,
    Groups,
}

impl Part {
    pub(super) fn atoms<'r>(self, region: &'r Region<'_>) -> &'r Rc<FixedBitSet> {
        match self {
            Self::Addresses => &region.addresses,
            Self::Cgroups | Self::Groups => &region.cgroups,
        }
    }

    pub(super) fn atoms_mut<'r>(self, region: &'r mut Region<'_>) -> &'r mut Rc<FixedBitSet> {
        match self {
            Self::Addresses => &mut region.addresses,
            Self::Cgroups | Self::Groups => &mut region.cgroups,
        }
    }

    pub(super) fn of_shape<'s>(self, shape: &'s RuleMask<'_>) -> &'s Rc<FixedBitSet> {
        match self {
            Self::Addresses => &shape.addresses,
            Self::Cgroups | Self::Groups => &shape.cgroups,
        }
    }
}

/// The cuts that made a region, the last one first.
#[derive(Clone, Default)]
pub(super) struct Words<'a>(Option<Rc<Word<'a>>>);

struct Word<'a> {
    inside: bool,
    part: Part,
    rule: &'a Rule,
    /// What the rule takes of this part.
    set: Rc<FixedBitSet>,
    before: Words<'a>,
}

impl<'a> Words<'a> {
    pub(super) fn with(&self, inside: bool, part: Part, shape: &RuleMask<'a>) -> Self {
        Self(Some(Rc::new(Word {
            inside,
            part,
            rule: shape.rule,
            set: Rc::clone(part.of_shape(shape)),
            before: self.clone(),
        })))
    }

    /// The cuts of a part, in the order that they were made.
    fn of(&self, part: Part) -> Vec<&Word<'a>> {
        let mut words = Vec::new();
        let mut at = self;
        while let Some(word) = &at.0 {
            if word.part == part {
                words.push(&**word);
            }
            at = &word.before;
        }
        words.reverse();
        words
    }
}

impl Drop for Word<'_> {
    fn drop(&mut self) {
        // Thousands of cuts, one after the other and not one inside the other.
        let mut next = std::mem::take(&mut self.before).0;
        while let Some(mut word) = next.and_then(|word| Rc::try_unwrap(word).ok()) {
            next = std::mem::take(&mut word.before).0;
        }
    }
}

/// The fields of a region that are neither ports nor users, in words; `any` where a field says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fields {
    /// `50`, `not 50`.
    pub groups: String,
    /// `/a`, `not /a/b`, `unit nginx.service`.
    pub cgroups: String,
    /// `127.0.0.0/8`.
    pub addresses: String,
}

impl Fields {
    /// Those of a region.
    #[must_use]
    pub fn of(region: &Region<'_>) -> Self {
        Self {
            groups: joined(&region.words.of(Part::Groups)),
            cgroups: joined(&needed(region, Part::Cgroups)),
            addresses: joined(&needed(region, Part::Addresses)),
        }
    }
}

/// Ports by protocol as (ports, protocols), protocols that have the same ones together.
#[must_use]
pub fn ports_text(ports: &[Vec<RangeInclusive<u16>>; 4]) -> Vec<(String, String)> {
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    for (ports, protocol) in ports.iter().zip(Protocol::ALL) {
        if ports.is_empty() {
            continue;
        }
        let ports = ranges_text(ports);
        match rows.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, protocols)) => protocols.push(protocol.as_str()),
            None => rows.push((ports, vec![protocol.as_str()])),
        }
    }
    let all = |protocols: Vec<&str>| match protocols.len() {
        4 => "any".to_owned(),
        _ => protocols.join(","),
    };
    rows.into_iter()
        .map(|(ports, protocols)| (ports, all(protocols)))
        .collect()
}

/// Callers in words.
#[must_use]
pub fn callers_text(callers: &Callers, names: &GivenNames) -> String {
    let everyone = |uids: &UidRanges| matches!(uids, UidRanges::AreNot(none) if none.is_empty());
    match callers {
        Callers::Same(uids) => uids_text(uids, names),
        Callers::Mixed(real, effective) if everyone(real) && everyone(effective) => {
            "real any, effective another".to_owned()
        }
        Callers::Mixed(real, effective) => {
            format!(
                "real {}, effective {}",
                uids_text(real, names),
                uids_text(effective, names)
            )
        }
    }
}

/// The cuts without which the region would be larger.
fn needed<'w, 'a>(region: &'w Region<'a>, part: Part) -> Vec<&'w Word<'a>> {
    /// More of them nobody reads, and to thin them out takes long.
    const MANY: usize = 64;
    let mut words = region.words.of(part);
    if words.len() > MANY {
        return words;
    }
    let mine = part.atoms(region);
    let mut at = 0;
    while at < words.len() {
        let mut without = FixedBitSet::with_capacity(mine.len());
        without.insert_range(..);
        for (_, word) in words.iter().enumerate().filter(|(i, _)| *i != at) {
            if word.inside {
                without.intersect_with(&word.set);
            } else {
                without.difference_with(&word.set);
            }
        }
        if without == **mine {
            words.remove(at);
        } else {
            at += 1;
        }
    }
    words
}

fn joined(words: &[&Word<'_>]) -> String {
    if words.is_empty() {
        return "any".to_owned();
    }
    // What it is first, then what it is not.
    let inside = words
        .iter()
        .filter(|word| word.inside)
        .map(|word| text(word));
    let outside = words.iter().filter(|word| !word.inside);
    let outside = outside.map(|word| format!("not {}", text(word)));
    let parts: Vec<String> = inside.chain(outside).collect();
    parts.join(" and ")
}

/// What a rule says of a part.
fn text(word: &Word<'_>) -> String {
    let written = RuleEntry::from(word.rule);
    let text = match word.part {
        Part::Groups => return ranges_text(word.rule.groups.as_deref().unwrap_or_default()),
        Part::Addresses => {
            let all = written.addresses.into_iter().flatten();
            all.map(|AddressText(text)| text)
                .collect::<Vec<_>>()
                .join(",")
        }
        Part::Cgroups => {
            let cgroups = written.cgroups.into_iter().flatten().map(|cgroup| cgroup.0);
            let cgroups = cgroups.collect::<Vec<_>>().join(",");
            let units = written.units.into_iter().flatten().map(|unit| unit.0);
            let units = units.collect::<Vec<_>>().join(",");
            match (cgroups.as_str(), units.as_str()) {
                (cgroups, "") => cgroups.to_owned(),
                ("", units) => format!("unit {units}"),
                (cgroups, units) => format!("({cgroups} in unit {units})"),
            }
        }
    };
    escape(text.as_bytes())
}

fn uids_text(uids: &UidRanges, names: &GivenNames) -> String {
    match uids {
        UidRanges::Are(uids) => few(uids, names),
        UidRanges::AreNot(none) if none.is_empty() => "any".to_owned(),
        UidRanges::AreNot(others) => format!("any but {}", few(others, names)),
    }
}

/// Users as the policy knows them: some, else how many more.
fn few(uids: &[(u32, u32)], names: &GivenNames) -> String {
    /// More are a list that nobody reads.
    const FEW: usize = 8;
    let one = |(first, last): &(u32, u32)| match (first == last, names.users.get(first)) {
        (false, _) => format!("{first}-{last}"),
        (true, Some(name)) => format!("{}({first})", escape(name.as_bytes())),
        (true, None) => first.to_string(),
    };
    let mut shown: Vec<String> = uids.iter().take(FEW).map(one).collect();
    if uids.len() > FEW {
        shown.push(format!("{} more", uids.len() - FEW));
    }
    shown.join(",")
}
