//! The values that random policies and binds are drawn from.

use crate::oracle::{Path, Proto};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The largest uid; the next number means "none" to the kernel.
pub const LAST_UID: u32 = u32::MAX - 1;

/// The values that policies and binds are drawn from.
#[derive(Clone, Debug)]
pub struct GeneratorConfig {
    /// Ports that most binds and rules use.
    pub ports: Vec<u16>,
    /// Users that most binds and rules use.
    pub uids: Vec<u32>,
    /// Whether other ports and uids appear too.
    pub beyond: bool,
    pub protocols: Vec<Proto>,
    pub names: Vec<String>,
    /// The start of all paths.
    pub base: Path,
    /// Levels of cgroups below `base`.
    pub depth: usize,
    /// Whether rules have cgroup patterns, whose automaton explodes with hundreds of random ones.
    pub patterns: bool,
}

impl GeneratorConfig {
    /// All kinds of values, for decisions without real binds.
    #[must_use]
    pub fn wide() -> Self {
        let longest = "n".repeat(126);
        let names = [
            "system.slice",
            "user.slice",
            "nginx.service",
            "nginx.service2",
            "worker",
            "a",
            "b",
            "a-1.slice",
            "dbus-\\x2d1 it's.service",
            "größe",
            &longest,
        ];
        Self {
            // 2047 to 2049 and 4095 to 4097 are at the edges of the pages of a port table.
            ports: vec![
                1, 2, 63, 64, 79, 80, 81, 442, 443, 444, 1022, 1023, 1024, 1025, 2047, 2048, 2049,
                4095, 4096, 4097, 5432, 8000, 8010, 32767, 32768, 65534, 65535,
            ],
            uids: vec![
                0,
                1,
                2,
                33,
                999,
                1000,
                1001,
                1002,
                1999,
                2000,
                65533,
                65534,
                65535,
                65536,
                100_000,
                0x7fff_ffff,
                0x8000_0000,
                LAST_UID - 1,
                LAST_UID,
            ],
            beyond: true,
            protocols: Proto::ALL.to_vec(),
            names: names.map(str::to_owned).to_vec(),
            base: Vec::new(),
            depth: 4,
            patterns: true,
        }
    }

    /// Few ports, users and cgroups, for real binds.
    #[must_use]
    pub fn real(base: &str, uids: &[u32]) -> Self {
        Self {
            ports: vec![1, 79, 80, 81, 443, 700, 1022, 1023, 1024, 1025, 5432],
            uids: uids.to_vec(),
            beyond: false,
            protocols: vec![Proto::Tcp, Proto::Udp],
            names: ["a", "b.slice", "a.service", "worker"]
                .map(str::to_owned)
                .to_vec(),
            base: vec![base.to_owned()],
            depth: 3,
            patterns: true,
        }
    }

    pub(super) fn port(&self) -> BoxedStrategy<u16> {
        let near = select(self.ports.clone());
        if self.beyond {
            prop_oneof![6 => near, 2 => 1..=90u16, 1 => 1..=u16::MAX].boxed()
        } else {
            near.boxed()
        }
    }

    pub(super) fn uid(&self) -> BoxedStrategy<u32> {
        let near = select(self.uids.clone());
        if self.beyond {
            prop_oneof![8 => near, 1 => 0..=LAST_UID].boxed()
        } else {
            near.boxed()
        }
    }

    pub(super) fn path(&self) -> impl Strategy<Value = Path> + use<> {
        let base = self.base.clone();
        vec(select(self.names.clone()), 0..=self.depth)
            .prop_map(move |below| base.iter().cloned().chain(below).collect())
    }
}
