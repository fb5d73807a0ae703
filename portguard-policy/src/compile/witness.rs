//! Witnesses of classes: a cgroup or an address for each set of rules that can match one.

use super::cgroup_trie;
use super::error::{CompileError, MAX_NODES};
use super::lpm::WILDCARDS;
use super::tables::{TrieEntry, edges_of};
use crate::policy::{Component, Rule};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portguard_common::MAX_CGROUP_DEPTH;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Limit of edges for the patterns of two policies together.
const MAX_EDGES: usize = 2 * MAX_NODES;

/// A path for each set of rules that can match a cgroup, as its names below the root. The last paths are deeper
/// than the kernel walks, where a pattern could match at such depth.
///
/// # Errors
/// Where the patterns of all rules are too complex together.
pub(crate) fn cgroups(rules: &[Rule]) -> Result<Vec<Vec<String>>, CompileError> {
    let known = cgroup_trie::build(rules, MAX_EDGES)?;
    let examples = known.globs.examples();
    // The class of the root.
    let mut seen = HashSet::from([0]);
    let mut paths = vec![Vec::new()];
    // Breadth first, for the shortest paths. Not every edge by class has a name.
    let mut reached = HashSet::from([0]);
    let mut queue = VecDeque::from([(0, Vec::new())]);
    while let Some((node, path)) = queue.pop_front() {
        let edges = edges_of(&known.entries, node);
        let named: HashSet<String> = edges.iter().map(name_in).collect();
        for entry in edges {
            if reached.contains(&entry.node.node) {
                continue;
            }
            let Some(name) = name_of(entry, &named, &examples) else {
                continue;
            };
            let path: Vec<String> = path.iter().cloned().chain([name]).collect();
            if seen.insert(entry.node.class) {
                paths.push(path.clone());
            }
            reached.insert(entry.node.node);
            queue.push_back((entry.node.node, path));
        }
    }
    paths.extend(too_deep(rules));
    Ok(paths)
}

/// A name that matches an edge; `None` where there is none.
fn name_of(edge: &TrieEntry, named: &HashSet<String>, examples: &[Vec<String>]) -> Option<String> {
    let Some(class) = edge.key.class() else {
        return Some(name_in(edge));
    };
    let mut names = examples.get(class as usize)?.iter();
    names.find(|name| !named.contains(*name)).cloned()
}

/// The name of an edge by name; empty for an edge by class.
fn name_in(edge: &TrieEntry) -> String {
    let mut parts = edge.key.name.split(|byte| *byte == 0);
    String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned()
}

/// For each pattern that could match there, a path deeper than the kernel walks.
fn too_deep(rules: &[Rule]) -> Vec<Vec<String>> {
    let below = |mut path: Vec<String>, name: &str| {
        path.resize(MAX_CGROUP_DEPTH + 1, name.to_owned());
        path
    };
    let mut paths = BTreeSet::new();
    for pattern in rules.iter().flat_map(|rule| rule.cgroups.iter().flatten()) {
        let any = |component: &Component| *component == Component::AnyDepth;
        if let Some(at) = pattern.0.iter().position(any) {
            let names = pattern.0.iter().take(at).map(|component| match component {
                Component::Name(name) => name.replace('*', ""),
                Component::AnyDepth => String::new(),
            });
            let names = names.map(|name| if name.is_empty() { "x".into() } else { name });
            paths.insert(below(names.collect(), "portguard-deep"));
        }
    }
    if rules.iter().any(|rule| rule.units.is_some()) {
        paths.insert(below(Vec::new(), "portguard-deep.slice"));
    }
    paths.into_iter().collect()
}

/// An address for each set of rules that can match one, and whether its socket is dual-stack.
pub(crate) fn addresses(rules: &[Rule]) -> Vec<(IpAddr, bool)> {
    let named = rules
        .iter()
        .flat_map(|rule| rule.addresses.iter().flatten());
    let mut networks: BTreeSet<IpNet> = named.copied().collect();
    if networks.is_empty() {
        return vec![(Ipv4Addr::UNSPECIFIED.into(), false)];
    }
    // The wildcards, which have classes of their own, and the addresses that no rule names.
    networks.extend(WILDCARDS.map(IpNet::from));
    networks.insert(Ipv4Net::default().into());
    networks.insert(Ipv6Net::default().into());
    let mut sorted: Vec<IpNet> = networks.into_iter().collect();
    sorted.sort_by_key(|network| (network.network(), network.prefix_len()));
    let mut out = Vec::new();
    for (i, network) in sorted.iter().enumerate() {
        let Some(address) = free_in(network, &sorted[i + 1..]) else {
            continue;
        };
        out.push((address, false));
        if address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            out.push((address, true));
        }
    }
    out
}

/// An address of `network` that is in none of the narrower networks, which come first in `rest`.
fn free_in(network: &IpNet, rest: &[IpNet]) -> Option<IpAddr> {
    let mut at = number(network.network());
    let last = number(network.broadcast());
    let v6 = network.addr().is_ipv6();
    for inner in rest.iter().take_while(|inner| network.contains(*inner)) {
        if at < number(inner.network()) {
            break;
        }
        at = at.max(number(inner.broadcast()).checked_add(1)?);
    }
    // IPv4-mapped addresses are IPv4.
    if v6 && Ipv6Addr::from(at).to_ipv4_mapped().is_some() {
        at = 1 << 48;
    }
    if at > last {
        return None;
    }
    Some(if v6 {
        Ipv6Addr::from(at).into()
    } else {
        Ipv4Addr::from(at as u32).into()
    })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}
