//! Regions as text.

use super::cuts::{Cut, Part};
use super::region::Region;
use super::users::{Callers, UidRanges};
use crate::compile::implied_wildcards;
use crate::escape::escape;
use crate::policy::{GivenNames, ranges_text};
use crate::yaml::{AddressText, RuleEntry};
use fixedbitset::FixedBitSet;
use portguard_common::Protocol;
use std::ops::RangeInclusive;

/// The fields of a region apart from ports and users, as text; `any` where a field is not restricted.
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
    /// The fields of a region.
    #[must_use]
    pub fn of(region: &Region<'_>) -> Self {
        Self {
            groups: joined(&region.cuts.of(Part::Groups)),
            cgroups: joined(&needed(region, Part::Cgroups)),
            addresses: joined(&needed(region, Part::Addresses)),
        }
    }
}

/// Ports by protocol as (ports, protocols); protocols with equal ports share an entry.
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

/// Callers as text.
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

/// The cuts that are not implied by the others.
fn needed<'w, 'a>(region: &'w Region<'a>, part: Part) -> Vec<&'w Cut<'a>> {
    /// Nobody reads more of them, and removing redundant ones is slow.
    const MANY: usize = 64;
    let mut cuts = region.cuts.of(part);
    if cuts.len() > MANY {
        return cuts;
    }
    let mine = region.atoms(part);
    let mut at = 0;
    while at < cuts.len() {
        let mut without = FixedBitSet::with_capacity(mine.len());
        without.insert_range(..);
        for (_, cut) in cuts.iter().enumerate().filter(|(i, _)| *i != at) {
            if cut.inside {
                without.intersect_with(&cut.set);
            } else {
                without.difference_with(&cut.set);
            }
        }
        if without == **mine {
            cuts.remove(at);
        } else {
            at += 1;
        }
    }
    cuts
}

fn joined(cuts: &[&Cut<'_>]) -> String {
    if cuts.is_empty() {
        return "any".to_owned();
    }
    // First what it is, then what it is not.
    let inside = cuts.iter().filter(|cut| cut.inside).map(|cut| text(cut));
    let outside = cuts.iter().filter(|cut| !cut.inside);
    let outside = outside.map(|cut| format!("not {}", text(cut)));
    let parts: Vec<String> = inside.chain(outside).collect();
    parts.join(" and ")
}

/// The values of a rule in the dimension of a cut.
fn text(cut: &Cut<'_>) -> String {
    let written = RuleEntry::from(cut.rule);
    let text = match cut.part {
        Part::Groups => return ranges_text(cut.rule.groups.as_deref().unwrap_or_default()),
        Part::Addresses => {
            let all = written.addresses.into_iter().flatten();
            // A wildcard that only its addresses deny is not in the policy's text.
            let implied = implied_wildcards(cut.rule).map(|wildcard| wildcard.to_string());
            all.map(|AddressText(text)| text)
                .chain(implied)
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

/// The first users, by the names that the policy has for them, and the number of the others.
fn few(uids: &[(u32, u32)], names: &GivenNames) -> String {
    /// Nobody reads a longer list.
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
