//! Protected ports that the kernel hands out by itself: `listen()` and `connect()` without bind take a
//! port of `ip_local_port_range` by no hook (`inet_csk_get_port`, `__inet_hash_connect`, 5.10 to 7.2).

use crate::policy::{merged, ranges_text};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// What a socket that names no port may get, in this network namespace.
#[derive(Clone, Debug)]
pub struct LocalPorts {
    range: RangeInclusive<u16>,
    reserved: BTreeSet<u16>,
}

/// Protected ports that a socket may get without a bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// They, as ranges.
    pub ports: String,
    /// `ip_local_port_range`
    pub range: String,
    /// The value of `ip_local_reserved_ports` that keeps them, and all that it keeps now.
    pub reserve: String,
}

impl LocalPorts {
    /// Of the network namespace of this process; `None` where it cannot be read.
    #[must_use]
    pub fn read() -> Option<Self> {
        let range = std::fs::read_to_string(RANGE).ok()?;
        let reserved = std::fs::read_to_string(RESERVED).ok()?;
        Self::parse(&range, &reserved)
    }

    /// What kernels begin with (`inet_sk_net_init`, 5.10 to 7.2), for a host that is not this one.
    #[must_use]
    pub const fn usual() -> Self {
        Self {
            range: 32_768..=60_999,
            reserved: BTreeSet::new(),
        }
    }

    fn parse(range: &str, reserved: &str) -> Option<Self> {
        let (first, last) = range.trim().split_once(char::is_whitespace)?;
        let mut ports = BTreeSet::new();
        for part in reserved.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            ports.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
        }
        Some(Self {
            range: first.trim().parse().ok()?..=last.trim().parse().ok()?,
            reserved: ports,
        })
    }

    /// What of `protect` lies open.
    #[must_use]
    pub fn exposed(&self, protect: &[RangeInclusive<u16>]) -> Option<Exposed> {
        let protected: BTreeSet<u16> = protect.iter().cloned().flatten().collect();
        let given = protected.range(self.range.clone()).copied();
        let open: BTreeSet<u16> = given.filter(|port| !self.reserved.contains(port)).collect();
        if open.is_empty() {
            return None;
        }
        Some(Exposed {
            ports: ranges(&open),
            range: format!("{}-{}", self.range.start(), self.range.end()),
            reserve: ranges(&(&self.reserved | &open)),
        })
    }
}

/// The ports as the kernel's setting writes them.
fn ranges(ports: &BTreeSet<u16>) -> String {
    let each: Vec<_> = ports.iter().map(|port| *port..=*port).collect();
    ranges_text(&merged(&each))
}

impl Exposed {
    /// The command that closes the hole.
    #[must_use]
    pub fn mend(&self) -> String {
        format!(
            "sysctl -w net.ipv4.ip_local_reserved_ports={}",
            self.reserve
        )
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "protected ports {} lie inside net.ipv4.ip_local_port_range ({}): listen() and connect() without bind take them with no hook",
            self.ports, self.range
        )
    }
}

#[cfg(test)]
mod tests {
    use super::LocalPorts;

    fn exposed(range: &str, reserved: &str, protect: &[(u16, u16)]) -> Option<(String, String)> {
        let protect: Vec<_> = protect.iter().map(|(a, b)| *a..=*b).collect();
        let ports = LocalPorts::parse(range, reserved).expect("settings");
        let found = ports.exposed(&protect)?;
        Some((found.to_string(), found.mend()))
    }

    #[test]
    fn what_is_open_is_named_with_the_command_that_closes_it() {
        let found = exposed(
            "32768\t60999\n",
            "8080,32900-32999\n",
            &[(1, 1023), (32890, 33001)],
        );
        let (what, mend) = found.expect("open ports");
        assert_eq!(
            what,
            "protected ports 32890-32899,33000-33001 lie inside net.ipv4.ip_local_port_range \
             (32768-60999): listen() and connect() without bind take them with no hook"
        );
        assert_eq!(
            mend,
            "sysctl -w net.ipv4.ip_local_reserved_ports=8080,32890-33001"
        );
    }

    #[test]
    fn what_is_reserved_or_outside_is_not_open() {
        assert_eq!(exposed("32768 60999", "\n", &[(1, 1023)]), None);
        assert_eq!(exposed("1 65535", "1-1023", &[(1, 1023)]), None);
    }
}
