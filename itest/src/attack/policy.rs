//! The policy of the suite, and what it decides on each kind of port for each actor.

use super::actors::Actor;

/// Ports that a rule names: entry point number `n` binds port `first + n`.
pub(super) struct Ports {
    pub(super) first: u16,
    /// The decision for an actor: the verdict and its rule.
    pub(super) verdict: fn(&Actor) -> (&'static str, Option<&'static str>),
}

const KERNEL: (&str, Option<&str>) = ("kernel", None);

/// The ports of each rule of [`POLICY`], and those of none.
pub(super) const PORTS: [Ports; 4] = [
    Ports {
        first: 100,
        verdict: |actor| match (actor.uid, actor.euid) {
            (33, 33) => ("allow", Some("web")),
            _ => KERNEL,
        },
    },
    Ports {
        first: 200,
        verdict: |_| ("deny", Some("refused")),
    },
    Ports {
        first: 300,
        verdict: |actor| match actor.jailed {
            true => ("deny", Some("jail")),
            false => KERNEL,
        },
    },
    Ports {
        first: 400,
        verdict: |_| KERNEL,
    },
];

pub(super) const POLICY: &str = "
version: 1
rules:
  - { name: web, action: allow, ports: [100-199], users: [33] }
  - { name: refused, action: deny, ports: [200-299] }
  - { name: jail, action: deny, ports: [300-399], cgroups: [/pgattack/jail, /pgattack/threads/jail] }
";

/// The hundreds of the ports of rule `jail`.
pub(super) const JAIL_RULE: u16 = 3;

pub(super) fn port(entry_point: usize, ports: usize) -> u16 {
    // There are fewer than a hundred entry points.
    PORTS.get(ports).map_or(0, |ports| ports.first) + u16::try_from(entry_point).unwrap_or(0)
}
