//! Patterns and networks, matched in the slow and obvious way.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a name matches a pattern in which `*` stands for any bytes or none.
pub(super) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, name)
                || name
                    .split_first()
                    .is_some_and(|(_, below)| glob(pattern, below))
        }
        (Some((byte, rest)), Some((first, below))) => byte == first && glob(rest, below),
        _ => false,
    }
}

/// Whether a cgroup or one of its ancestors matches a pattern.
pub(super) fn path_matches(pattern: &[String], path: &[String]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return true;
    };
    if first == "**" {
        return (0..=path.len()).any(|skipped| path_matches(rest, &path[skipped..]));
    }
    path.split_first().is_some_and(|(name, below)| {
        glob(first.as_bytes(), name.as_bytes()) && path_matches(rest, below)
    })
}

/// A network: an address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net(pub IpAddr, pub u8);

impl Net {
    /// All addresses of IPv4.
    pub(super) const ALL_V4: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    /// All addresses of IPv6.
    pub(super) const ALL_V6: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    /// IPv4 addresses in the form of IPv6: a bind of one is an IPv4 bind.
    const MAPPED: Self = Self(
        IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)),
        128 - 32,
    );

    /// The network of one address.
    pub(super) fn one(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self(address, if address.is_ipv4() { 32 } else { 128 })
    }

    /// Whether the network contains all of another.
    pub(super) fn contains(self, other: Self) -> bool {
        self.1 <= other.1
            && match (self.0, other.0) {
                (IpAddr::V4(own), IpAddr::V4(other)) => {
                    let cut = |a: u32| a.checked_shr(32 - u32::from(self.1)).unwrap_or(0);
                    cut(own.to_bits()) == cut(other.to_bits())
                }
                (IpAddr::V6(own), IpAddr::V6(other)) => {
                    let cut = |a: u128| a.checked_shr(128 - u32::from(self.1)).unwrap_or(0);
                    cut(own.to_bits()) == cut(other.to_bits())
                }
                _ => false,
            }
    }

    /// Whether the networks share an address: one of them contains the other.
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    fn halves(self) -> [Self; 2] {
        let upper = match self.0 {
            IpAddr::V4(own) => Ipv4Addr::from(own.to_bits() | 1 << (31 - self.1)).into(),
            IpAddr::V6(own) => Ipv6Addr::from(own.to_bits() | 1 << (127 - self.1)).into(),
        };
        [Self(self.0, self.1 + 1), Self(upper, self.1 + 1)]
    }

    /// Whether some networks together contain all of this one.
    pub(super) fn is_covered_by(self, networks: &[Self]) -> bool {
        let mut known = networks.iter().chain([&Self::MAPPED]);
        if known.clone().any(|network| network.contains(self)) {
            return true;
        }
        // A network that only overlaps is inside, and leaves bits to cut.
        known.any(|network| self.contains(*network))
            && (self.halves().iter()).all(|half| half.is_covered_by(networks))
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.0.is_ipv4() { 32 } else { 128 };
        if self.1 == all {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{}/{}", self.0, self.1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_within_a_name() {
        let hit = |pattern: &str, name: &str| glob(pattern.as_bytes(), name.as_bytes());
        assert!(hit("docker-*.scope", "docker-.scope") && hit("*a*b*", "xxaxxbxx") && hit("*", ""));
        assert!(!hit("docker-*.scope", "docker-1.scop") && !hit("a*", "ba"));
    }

    #[test]
    fn networks_cover_what_their_parts_cover() {
        let four = |a, bits| Net([a, 0, 0, 0].into(), bits);
        let halves = [four(0, 1), four(128, 1)];
        assert!(Net::ALL_V4.is_covered_by(&halves) && four(10, 8).is_covered_by(&halves));
        assert!(!Net::ALL_V4.is_covered_by(&halves[..1]) && !Net::ALL_V6.is_covered_by(&halves));
        assert!(!Net::ALL_V4.is_covered_by(&[four(0, 1), four(128, 2), four(192, 3)]));
        // All of IPv6 but the mapped addresses.
        let bits = |bits: u128, len| Net(Ipv6Addr::from(bits).into(), len);
        let mapped = 0xffff << 32_u32;
        let beside = |len: u8| {
            bits(
                (mapped ^ 1 << (128 - len)) >> (128 - len) << (128 - len),
                len,
            )
        };
        let others: Vec<Net> = (1..=96).map(beside).collect();
        assert!(Net::ALL_V6.is_covered_by(&others) && !Net::ALL_V6.is_covered_by(&others[1..]));
    }

    #[test]
    fn double_star_matches_any_depth() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let hit = |pattern, at| path_matches(&path(pattern), &path(at));
        assert!(hit("**/a", "a") && hit("**/a", "x/y/a/z") && hit("a/**/b", "a/b"));
        assert!(!hit("**/a", "x/y") && !hit("*/a", "a") && !hit("a/*", "a"));
    }
}
