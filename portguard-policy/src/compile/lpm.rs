//! The networks and groups that rules name, as entries of longest-prefix tables.
//!
//! The kernel uses the longest prefix only, so each entry includes what the shorter ones around it match.

use super::classes::{self, Classes, RuleSet};
use super::error::{CompileError, MAX_ADDRESSES, MAX_GROUPS};
use super::tables::{AddressEntry, GroupEntry};
use crate::policy::Rule;
use ipnet::{IpNet, Ipv6Net};
use portguard_common::{AddressKey, GroupKey, Verdict};
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
    classes.number(&rules_where(rules, |_| false));
    let mut entries = Vec::new();
    let named = rules
        .iter()
        .flat_map(|rule| rule.addresses.iter().flatten());
    let mut networks: BTreeSet<IpNet> = named.copied().collect();
    if !networks.is_empty() {
        networks.extend(WILDCARDS.map(IpNet::from));
    }
    for network in networks {
        let set = rules_where(rules, |rule| matches(rule, &network));
        let class = classes.number(&set) as u32;
        entries.push(entry(network, class));
    }
    if entries.len() > MAX_ADDRESSES {
        return Err(CompileError::TooManyAddresses(entries.len()));
    }
    classes.check("addresses")?;
    Ok(Addresses { entries, classes })
}

/// `0.0.0.0` and `::`.
pub(crate) const WILDCARDS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// IPv4-mapped addresses, which are IPv4.
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// Whether the addresses of a rule match a bind of `network`, which is one address or a whole network.
fn matches(rule: &Rule, network: &IpNet) -> bool {
    if *network == IpNet::from(network.addr()) && network.addr().is_unspecified() {
        return matches_wildcard(rule, network.addr());
    }
    let mut named = rule.addresses.iter().flatten();
    named.any(|named| named.contains(network))
}

/// Whether the addresses of a rule match a bind of a wildcard, which answers on all addresses of its family: a
/// `deny` rule where it names any of them, another where it names the wildcard itself or all of them.
fn matches_wildcard(rule: &Rule, wildcard: IpAddr) -> bool {
    match rule.action {
        Verdict::Deny => !family_of(rule, wildcard).is_empty(),
        Verdict::Allow | Verdict::Kernel => names_wildcard(rule, wildcard),
    }
}

/// Whether a rule names a wildcard itself or all addresses of its family.
fn names_wildcard(rule: &Rule, wildcard: IpAddr) -> bool {
    let mut named = family_of(rule, wildcard);
    if named.contains(&wildcard.into()) {
        return true;
    }
    if wildcard.is_ipv6() {
        named.push(MAPPED.into());
    }
    let joined = IpNet::aggregate(&named);
    joined.iter().any(|network| network.prefix_len() == 0)
}

/// The networks of a rule that have the family of an address.
fn family_of(rule: &Rule, address: IpAddr) -> Vec<IpNet> {
    let named = rule.addresses.iter().flatten();
    let named = named.filter(|named| named.addr().is_ipv4() == address.is_ipv4());
    named.copied().collect()
}

/// The wildcards that a rule matches because it denies an address on which they answer.
pub(crate) fn implied_wildcards(rule: &Rule) -> impl Iterator<Item = IpAddr> {
    let implied = |wildcard: &IpAddr| {
        rule.addresses.is_some()
            && matches_wildcard(rule, *wildcard)
            && !names_wildcard(rule, *wildcard)
    };
    WILDCARDS.into_iter().filter(implied)
}

/// The rules that name no address, and those of which `condition` holds.
fn rules_where(rules: &[Rule], condition: impl Fn(&Rule) -> bool) -> RuleSet {
    let mut set = RuleSet::empty(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        if rule.addresses.is_none() || condition(rule) {
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
    use crate::policy::{StaticNames, parse};

    #[test]
    fn range_splits_into_the_fewest_aligned_blocks() {
        assert_eq!(blocks(0, u64::from(u32::MAX)), [(0, 0)]);
        assert_eq!(blocks(5, 5), [(5, 32)]);
        assert_eq!(blocks(1000, 1003), [(1000, 30)]);
        assert_eq!(blocks(1, 4), [(1, 32), (2, 31), (4, 32)]);
    }

    fn rule(action: &str, addresses: &str) -> Rule {
        let text = format!(
            "{{ version: 1, rules: [{{ name: a, action: {action}, addresses: [{addresses}] }}] }}"
        );
        let loaded = parse("p.yaml".as_ref(), &text, &StaticNames::default());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        loaded.policy.rules.into_iter().next().expect("one rule")
    }

    /// Whether a rule matches `0.0.0.0`, and whether it matches `::`.
    fn wildcards(action: &str, addresses: &str) -> [bool; 2] {
        WILDCARDS.map(|any| matches_wildcard(&rule(action, addresses), any))
    }

    #[test]
    fn wildcard_is_denied_where_any_address_of_its_family_is_named() {
        for named in ["127.0.0.0/8", "0.0.0.0/0", "10.1.2.3", "'::ffff:127.0.0.1'"] {
            assert_eq!(wildcards("deny", named), [true, false], "{named}");
        }
        for named in ["'::1'", "'::/0'", "'2001:db8::/32'"] {
            assert_eq!(wildcards("deny", named), [false, true], "{named}");
        }
        assert_eq!(wildcards("deny", "10.0.0.1, '::1'"), [true, true]);
    }

    #[test]
    fn wildcard_is_allowed_where_all_addresses_of_its_family_are_named() {
        for action in ["allow", "kernel"] {
            for part in ["127.0.0.0/8", "0.0.0.0/1, 128.0.0.0/2", "'::1'", "'::/1'"] {
                assert_eq!(wildcards(action, part), [false, false], "{part}");
            }
            for all in [
                "0.0.0.0/0",
                "0.0.0.0/1, 128.0.0.0/1",
                "0.0.0.0/1, 128.0.0.0/2, 192.0.0.0/2",
            ] {
                assert_eq!(wildcards(action, all), [true, false], "{all}");
            }
            for all in ["'::/0'", "'8000::/1', '::/1'"] {
                assert_eq!(wildcards(action, all), [false, true], "{all}");
            }
        }
    }

    #[test]
    fn wildcard_alone_is_itself_and_nothing_else() {
        for action in ["allow", "kernel", "deny"] {
            assert_eq!(wildcards(action, "0.0.0.0"), [true, false]);
            assert_eq!(wildcards(action, "'::'"), [false, true]);
            let net = |text: &str| text.parse::<IpNet>().expect("a network");
            assert!(!matches(&rule(action, "0.0.0.0"), &net("127.0.0.1/32")));
            assert!(matches(&rule(action, "0.0.0.0/0"), &net("127.0.0.1/32")));
        }
    }
}
