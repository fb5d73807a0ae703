//! The fields of rules and binds besides ports, protocols, users and plain cgroups.

use super::config::{GeneratorConfig, LAST_UID};
use crate::oracle::{ADDRESS, Action, Logged, ModelRule, Net, Path, Span};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const GIDS: [u32; 7] = [0, 33, 100, 1000, 1003, 2000, LAST_UID];

/// Addresses that any machine can bind.
fn addresses() -> Vec<IpAddr> {
    vec![
        ADDRESS.into(),
        Ipv4Addr::new(127, 77, 0, 2).into(),
        Ipv4Addr::new(127, 78, 0, 1).into(),
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::LOCALHOST.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        ADDRESS.to_ipv6_mapped().into(),
    ]
}

fn networks() -> Vec<Net> {
    let four = |a, b, c, d, bits| Net(Ipv4Addr::new(a, b, c, d).into(), bits);
    vec![
        four(127, 0, 0, 0, 8),
        four(127, 77, 0, 0, 16),
        four(127, 77, 0, 1, 32),
        four(127, 77, 0, 0, 31),
        four(0, 0, 0, 0, 0),
        four(0, 0, 0, 0, 32),
        four(0, 0, 0, 0, 8),
        four(0, 0, 0, 0, 1),
        four(128, 0, 0, 0, 1),
        four(10, 0, 0, 0, 8),
        Net(Ipv6Addr::UNSPECIFIED.into(), 128),
        Net(Ipv6Addr::UNSPECIFIED.into(), 0),
        Net(Ipv6Addr::LOCALHOST.into(), 128),
        Net(Ipv6Addr::UNSPECIFIED.into(), 64),
        Net(Ipv6Addr::UNSPECIFIED.into(), 1),
        Net(Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0).into(), 1),
    ]
}

pub(super) fn gid() -> impl Strategy<Value = u32> {
    select(GIDS.to_vec())
}

pub(super) fn groups() -> impl Strategy<Value = Vec<u32>> {
    vec(gid(), 0..=2).prop_map(unique)
}

/// An address, and `IPV6_V6ONLY`, which excludes IPv4-mapped addresses.
pub(super) fn address() -> impl Strategy<Value = (IpAddr, bool)> {
    (select(addresses()), any::<bool>()).prop_map(|(address, only)| {
        let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
        (address, only && address.is_ipv6() && !mapped)
    })
}

/// A cgroup pattern: often a plain path, else one with patterns for some names.
pub(super) fn pattern(config: &GeneratorConfig) -> impl Strategy<Value = Path> + use<> {
    let base = config.base.clone();
    let name = select(config.names.clone());
    let part = prop_oneof![
        3 => name.clone(),
        1 => Just("*".to_owned()),
        1 => name.clone().prop_map(|name| {
            let cut = name.chars().next().map_or(0, char::len_utf8);
            format!("{}*", &name[..cut])
        }),
        1 => select(vec!["*.slice", "*.service", "*r*", "n*.s*e"]).prop_map(str::to_owned),
        1 => Just("**".to_owned()),
    ];
    let patterned = vec(part, 1..=config.depth);
    let plain = vec(name, 0..=config.depth);
    prop_oneof![2 => plain, u32::from(config.patterns) => patterned]
        .prop_map(move |below| base.iter().cloned().chain(below).collect())
}

fn unit() -> impl Strategy<Value = String> {
    let units = [
        "nginx.service",
        "a.service",
        "*.service",
        "n*.service",
        "a-1.slice",
        "*.slice",
    ];
    select(units.map(str::to_owned).to_vec())
}

/// A rule with only the further fields; most have none.
pub(super) fn further(_: &GeneratorConfig) -> impl Strategy<Value = ModelRule> + use<> {
    (
        weighted(0.2, vec(span(gid().boxed()), 1..=3)),
        weighted(0.1, vec(unit(), 1..=2)),
        weighted(0.2, vec(select(networks()), 1..=3)),
        weighted(0.1, Just(())),
        weighted(0.15, select(vec![Logged::All, Logged::Deny, Logged::None])),
        weighted(0.3, select(vec!["EACCES", "EPERM", "EADDRINUSE"])),
    )
        .prop_map(|(groups, units, addresses, audit, log, errno)| ModelRule {
            groups: groups.map(unique),
            units: units.map(unique),
            addresses: addresses.map(unique),
            audit: audit.is_some(),
            log,
            errno,
            ..ModelRule::new(String::new(), Action::Kernel)
        })
}

/// A range, often of one number.
pub(super) fn span<T: Ord + Copy + std::fmt::Debug>(
    one: BoxedStrategy<T>,
) -> impl Strategy<Value = Span<T>> {
    prop_oneof![
        3 => one.clone().prop_map(|at| (at, at)),
        2 => (one.clone(), one).prop_map(|(a, b)| (a.min(b), a.max(b))),
    ]
}

/// Without repeated entries, for which the parser warns.
pub(super) fn unique<T: PartialEq>(entries: Vec<T>) -> Vec<T> {
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        if !kept.contains(&entry) {
            kept.push(entry);
        }
    }
    kept
}
