//! Protected ports that the kernel assigns itself: `listen()` and `connect()` without a bind take a port of
//! `ip_local_port_range`, which no hook sees (`inet_csk_get_port`, `__inet_hash_connect`, 5.10 to 7.2).

use crate::policy::{merged, ranges_text};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

/// The ports that sockets without a bind may get in a network namespace.
#[derive(Clone, Debug)]
pub struct LocalPorts {
    range: RangeInclusive<u16>,
    reserved: BTreeSet<u16>,
}

/// Protected ports that sockets may get without a bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The ports, as ranges.
    pub ports: String,
    /// `ip_local_port_range`.
    pub range: String,
    /// The value of `ip_local_reserved_ports` that reserves them beside those reserved already.
    pub reserve: String,
    /// Ports of the range that would be left to `connect()` then.
    pub left: usize,
    /// Ports of the range.
    pub all: usize,
}

impl LocalPorts {
    /// The kernel's defaults (`inet_sk_net_init`, 5.10 to 7.2), for another host than this one.
    #[must_use]
    pub const fn kernel_default() -> Self {
        Self {
            range: 32_768..=60_999,
            reserved: BTreeSet::new(),
        }
    }

    /// Parses the values of `ip_local_port_range` and `ip_local_reserved_ports`.
    #[must_use]
    pub fn parse(range: &str, reserved: &str) -> Option<Self> {
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

    /// The protected ports that are in the range and not reserved; `None` where there are none.
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
            left: (self.range.clone())
                .filter(|port| !self.reserved.contains(port) && !open.contains(port))
                .count(),
            all: self.range.len(),
        })
    }
}

/// Ports in the format of the kernel's setting.
fn ranges(ports: &BTreeSet<u16>) -> String {
    let each: Vec<_> = ports.iter().map(|port| *port..=*port).collect();
    ranges_text(&merged(&each))
}

impl Exposed {
    /// The command that reserves the ports, or why they should not be reserved: connections need ports too.
    #[must_use]
    pub fn fix(&self) -> String {
        if self.left * 2 < self.all {
            return format!(
                "protect fewer of them: reserving all would leave connect() {} of {} ports",
                self.left, self.all
            );
        }
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
            "protected ports {} are inside net.ipv4.ip_local_port_range ({}): the kernel assigns them to listen() and connect() without a bind, which no hook sees",
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
        Some((found.to_string(), found.fix()))
    }

    #[test]
    fn exposed_ports_are_reported_with_the_command_that_reserves_them() {
        let found = exposed(
            "32768\t60999\n",
            "8080,32900-32999\n",
            &[(1, 1023), (32890, 33001)],
        );
        let (message, fix) = found.expect("open ports");
        assert_eq!(
            message,
            "protected ports 32890-32899,33000-33001 are inside net.ipv4.ip_local_port_range \
             (32768-60999): the kernel assigns them to listen() and connect() without a bind, \
             which no hook sees"
        );
        assert_eq!(
            fix,
            "sysctl -w net.ipv4.ip_local_reserved_ports=8080,32890-33001"
        );
    }

    #[test]
    fn fix_does_not_reserve_most_of_the_range() {
        let fix = |first, last| exposed("32768 60999", "", &[(first, last)]).map(|(_, fix)| fix);
        let none = "protect fewer of them: reserving all would leave connect() 0 of 28232 ports";
        assert_eq!(fix(1, 65535).as_deref(), Some(none));
        let few = "protect fewer of them: reserving all would leave connect() 1000 of 28232 ports";
        assert_eq!(fix(1, 59999).as_deref(), Some(few));
        let most = "sysctl -w net.ipv4.ip_local_reserved_ports=32768-40000";
        assert_eq!(fix(30000, 40000).as_deref(), Some(most));
    }

    #[test]
    fn ports_that_are_reserved_or_out_of_range_are_not_exposed() {
        assert_eq!(exposed("32768 60999", "\n", &[(1, 1023)]), None);
        assert_eq!(exposed("1 65535", "1-1023", &[(1, 1023)]), None);
    }
}
