//! Ports that the same rules match.

use portguard_common::Protocol;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Ports that the same rules match, in each policy.
#[derive(Clone, Debug)]
pub struct PortGroup {
    /// By protocol, in the order of [`Protocol::ALL`].
    pub ports: [Vec<RangeInclusive<u16>>; 4],
    /// Numbers of the rules of each policy; `None` where the ports are not protected.
    pub rules: Vec<Option<Rc<Vec<usize>>>>,
}

impl PortGroup {
    /// The first port, and the first protocol that has it here.
    #[must_use]
    pub fn first(&self) -> Option<(u16, Protocol)> {
        let firsts = self.ports.iter().zip(Protocol::ALL);
        let firsts =
            firsts.filter_map(|(ports, protocol)| Some((*ports.first()?.start(), protocol)));
        firsts.min()
    }

    /// The group of one port for one protocol.
    #[must_use]
    pub fn has(&self, port: u16, protocol: Protocol) -> bool {
        let ports = &self.ports[protocol as usize];
        ports.iter().any(|range| range.contains(&port))
    }
}
