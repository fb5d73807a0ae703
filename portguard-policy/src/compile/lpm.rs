//! The networks and groups that rules name, as entries of longest-prefix tables.
//!
//! The kernel uses the longest prefix only, so each entry includes what the shorter ones around it match.

use super::classes::{self, Classes, RuleSet};
use super::error::{CompileError, MAX_ADDRESSES, MAX_GROUPS};
use super::tables::{AddressEntry, GroupEntry};
use crate::policy::Rule;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portguard_common::{AddressKey, GroupKey};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The table of addresses and its classes.
pub(super) struct Addresses {
    pub(super) entries: Vec<AddressEntry>,
    /// Class 0 is the class of an address that no rule names.
    pub(super) classes: Classes,
}

/// Builds the table of addresses.
///
/// # Errors
/// Where there are too many networks or classes.
pub(super) fn addresses(rules: &[Rule]) -> Result<Addresses, CompileError> {
    let mut classes = Classes::new();
    classes.number(&holding(rules, |_| false));
    let mut entries = Vec::new();
    let named = rules
        .iter()
        .flat_map(|rule| rule.addresses.iter().flatten());
    let mut networks: BTreeSet<IpNet> = named.copied().collect();
    if !networks.is_empty() {
        // No wider network contains the wildcards.
        networks.insert(Ipv4Net::from(Ipv4Addr::UNSPECIFIED).into());
        networks.insert(Ipv6Net::from(Ipv6Addr::UNSPECIFIED).into());
    }
    for network in networks {
        let set = holding(rules, |named| covers(named, &network));
        let class = classes.number(&set) as u32;
        entries.push(entry(network, class));
    }
    if entries.len() > MAX_ADDRESSES {
        return Err(CompileError::TooManyAddresses(entries.len()));
    }
    classes.check("addresses")?;
    Ok(Addresses { entries, classes })
}

/// Whether `named` matches every address of `network`.
fn covers(named: &IpNet, network: &IpNet) -> bool {
    let wildcard =
        network.prefix_len() == network.max_prefix_len() && network.addr().is_unspecified();
    if wildcard {
        named == network
    } else {
        named.contains(network)
    }
}

fn holding(rules: &[Rule], named: impl Fn(&IpNet) -> bool) -> RuleSet {
    let mut set = RuleSet::empty(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        let all = rule.addresses.as_ref();
        if all.is_none_or(|all| all.iter().any(&named)) {
            set.insert(i);
        }
    }
    set
}

fn entry(network: IpNet, class: u32) -> AddressEntry {
    let key = key(network.network());
    let prefix = AddressKey::SPACE_BITS + u32::from(network.prefix_len());
    AddressEntry { prefix, key, class }
}

/// The key of an address.
pub(super) fn key(address: IpAddr) -> AddressKey {
    match address {
        IpAddr::V4(address) => {
            let word = u32::from_ne_bytes(address.octets());
            AddressKey::new(0, false, [word, 0, 0, 0])
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let word = |i: usize| {
                let bytes = [octets[i], octets[i + 1], octets[i + 2], octets[i + 3]];
                u32::from_ne_bytes(bytes)
            };
            AddressKey::new(0, true, [word(0), word(4), word(8), word(12)])
        }
    }
}

/// Builds the table of groups: each entry is a block of gids with the rules that name it.
///
/// # Errors
/// Where there are too many blocks.
pub(super) fn groups(rules: &[Rule]) -> Result<Vec<GroupEntry>, CompileError> {
    let intervals = classes::groups(rules);
    let mut entries = Vec::new();
    for (i, interval) in intervals.iter().enumerate() {
        if interval.rules.is_empty() {
            continue;
        }
        let end = intervals
            .get(i + 1)
            .map_or(u64::from(u32::MAX), |next| next.start - 1);
        for (first, bits) in blocks(interval.start, end) {
            let key = GroupKey::new(0, first);
            let prefix = GroupKey::SPACE_BITS + bits;
            let rules = interval.rules.vector();
            entries.push(GroupEntry { prefix, key, rules });
        }
        if entries.len() > MAX_GROUPS {
            return Err(CompileError::TooManyGroups(entries.len()));
        }
    }
    Ok(entries)
}

/// The fewest aligned blocks that make up a range: first value and prefix length of each.
fn blocks(mut first: u64, last: u64) -> Vec<(u32, u32)> {
    let mut blocks = Vec::new();
    while first <= last {
        let mut size = 32;
        while size > 0 && (!first.is_multiple_of(1 << size) || first + (1 << size) - 1 > last) {
            size -= 1;
        }
        blocks.push((first as u32, 32 - size));
        first += 1 << size;
    }
    blocks
}

/// The rules that name no group.
pub(super) fn groupless(rules: &[Rule]) -> RuleSet {
    let mut set = RuleSet::empty(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        if rule.groups.is_none() {
            set.insert(i);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_splits_into_the_fewest_aligned_blocks() {
        assert_eq!(blocks(0, u64::from(u32::MAX)), [(0, 0)]);
        assert_eq!(blocks(5, 5), [(5, 32)]);
        assert_eq!(blocks(1000, 1003), [(1000, 30)]);
        assert_eq!(blocks(1, 4), [(1, 32), (2, 31), (4, 32)]);
    }

    #[test]
    fn wildcard_is_in_no_wider_network() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        assert!(!covers(&net("0.0.0.0/0"), &net("0.0.0.0/32")));
        assert!(!covers(&net("::/0"), &net("::/128")));
        assert!(covers(&net("0.0.0.0/32"), &net("0.0.0.0/32")));
        assert!(covers(&net("0.0.0.0/0"), &net("127.0.0.1/32")));
    }
}
