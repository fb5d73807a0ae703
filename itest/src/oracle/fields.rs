//! Patterns and networks, matched in the slow and obvious way.

use std::fmt;
use std::net::IpAddr;

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
    /// Whether the network contains an address. A wildcard address is only in the network of itself or of all.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let (own, address) = (self.0.to_canonical(), address.to_canonical());
        match (own, address) {
            (IpAddr::V4(own), IpAddr::V4(address)) => {
                let rest = 32 - u32::from(self.1);
                let same = |a: u32, b: u32| u64::from(a) >> rest == u64::from(b) >> rest;
                same(own.to_bits(), address.to_bits()) && (!address.is_unspecified() || rest == 0)
            }
            (IpAddr::V6(own), IpAddr::V6(address)) => {
                let rest = 128 - u32::from(self.1);
                let cut = |bits: u128| bits.checked_shr(rest).unwrap_or(0);
                cut(own.to_bits()) == cut(address.to_bits())
                    && (!address.is_unspecified() || rest == 0)
            }
            _ => false,
        }
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
    fn double_star_matches_any_depth() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let hit = |pattern, at| path_matches(&path(pattern), &path(at));
        assert!(hit("**/a", "a") && hit("**/a", "x/y/a/z") && hit("a/**/b", "a/b"));
        assert!(!hit("**/a", "x/y") && !hit("*/a", "a") && !hit("a/*", "a"));
    }
}
