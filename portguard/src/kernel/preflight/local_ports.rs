//! The ports that this kernel assigns without a bind.

use portguard_policy::local_ports::LocalPorts;
use std::fs::read_to_string;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The settings of this process's network namespace; `None` where they cannot be read.
#[must_use]
pub fn local_ports() -> Option<LocalPorts> {
    LocalPorts::parse(
        &read_to_string(RANGE).ok()?,
        &read_to_string(RESERVED).ok()?,
    )
}
