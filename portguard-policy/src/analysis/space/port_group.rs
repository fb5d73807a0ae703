//! Ports that the same rules match.

use portguard_common::Protocol;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Ports that the same rules match in each policy.
#[derive(Clone, Debug)]
pub struct PortGroup {
    /// By protocol, in the order of [`Protocol::ALL`].
    pub ports: [Vec<RangeInclusive<u16>>; 4],
    /// The numbers of the rules of each policy; `None` where it does not protect the ports.
    pub rules: Vec<Option<Rc<Vec<usize>>>>,
}

impl PortGroup {
    /// The first port, and the first protocol that has it.
    #[must_use]
    pub fn first(&self) -> Option<(u16, Protocol)> {
        let firsts = self.ports.iter().zip(Protocol::ALL);
        let firsts =
            firsts.filter_map(|(ports, protocol)| Some((*ports.first()?.start(), protocol)));
        firsts.min()
    }

    /// Whether the group has a port of a protocol.
    #[must_use]
    pub fn has(&self, port: u16, protocol: Protocol) -> bool {
        let ports = &self.ports[protocol as usize];
        ports.iter().any(|range| range.contains(&port))
    }

    /// The group reduced to one port and to these protocols; `None` where it has none of them.
    #[must_use]
    pub fn only(&self, port: u16, protocols: &[Protocol]) -> Option<Self> {
        let ports = Protocol::ALL.map(|protocol| {
            let here = protocols.contains(&protocol) && self.has(port, protocol);
            here.then_some(port..=port).into_iter().collect()
        });
        let rules = self.rules.clone();
        let only = Self { ports, rules };
        only.first().is_some().then_some(only)
    }
}
