//! Random policies and binds for the properties.
//!
//! Ports, users and cgroups come from small clusters, and a bind is often made beside the edge of a
//! range of its policy, so that hits, overlaps and off-by-one mistakes are frequent instead of rare.

mod binds;
mod fields;

use crate::oracle::{Action, Logged, Model, ModelRule, OracleBind, Path, Proto, Span};
use binds::{aim, binds};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use std::ops::RangeInclusive;

/// The largest uid: the one above it means "none" to the kernel.
pub const LAST_UID: u32 = u32::MAX - 1;

/// What policies and binds are drawn from.
#[derive(Clone, Debug)]
pub struct GeneratorConfig {
    /// Ports where things happen.
    pub ports: Vec<u16>,
    /// Users where things happen.
    pub uids: Vec<u32>,
    /// Whether any other port and uid may appear too.
    pub beyond: bool,
    /// Protocols of binds and rules.
    pub protocols: Vec<Proto>,
    /// Names of cgroups.
    pub names: Vec<String>,
    /// All paths begin with this.
    pub base: Path,
    /// Levels of cgroups below `base`.
    pub depth: usize,
    /// Whether rules name cgroups by patterns, which multiply where there are hundreds of random ones.
    pub patterns: bool,
}

impl GeneratorConfig {
    /// Everything that the tables must get right, for decisions alone.
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
            // 2047 to 2049 and 4095 to 4097 lie on the edges of the pages of a port table.
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

    /// Few ports, users and cgroups, with which binds can really be made.
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

    fn port(&self) -> BoxedStrategy<u16> {
        let near = select(self.ports.clone());
        if self.beyond {
            prop_oneof![6 => near, 2 => 1..=90u16, 1 => 1..=u16::MAX].boxed()
        } else {
            near.boxed()
        }
    }

    fn uid(&self) -> BoxedStrategy<u32> {
        let near = select(self.uids.clone());
        if self.beyond {
            prop_oneof![8 => near, 1 => 0..=LAST_UID].boxed()
        } else {
            near.boxed()
        }
    }

    fn path(&self) -> impl Strategy<Value = Path> + use<> {
        let base = self.base.clone();
        vec(select(self.names.clone()), 0..=self.depth)
            .prop_map(move |below| base.iter().cloned().chain(below).collect())
    }
}

fn span<T: Ord + Copy + std::fmt::Debug>(one: BoxedStrategy<T>) -> impl Strategy<Value = Span<T>> {
    prop_oneof![
        3 => one.clone().prop_map(|at| (at, at)),
        2 => (one.clone(), one).prop_map(|(a, b)| (a.min(b), a.max(b))),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Allow, Action::Deny, Action::Kernel])
}

/// A rule without a name.
fn rule(config: &GeneratorConfig) -> impl Strategy<Value = ModelRule> + use<> {
    let plain = (
        action(),
        weighted(0.9, vec(span(config.port()), 1..=4)),
        weighted(0.3, vec(select(config.protocols.clone()), 1..=2)),
        weighted(0.6, vec(span(config.uid()), 1..=4)),
        weighted(0.35, vec(fields::pattern(config), 1..=3)),
    );
    (plain, fields::further(config)).prop_map(|(plain, further)| {
        let (action, ports, protocols, users, cgroups) = plain;
        ModelRule {
            action,
            ports: ports.map(unique),
            protocols: protocols.map(unique),
            users: users.map(unique),
            cgroups: cgroups.map(unique),
            ..further
        }
    })
}

/// Without repeated entries, in which a policy file may be told of a mistake.
fn unique<T: PartialEq>(entries: Vec<T>) -> Vec<T> {
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        if !kept.contains(&entry) {
            kept.push(entry);
        }
    }
    kept
}

fn protect(config: &GeneratorConfig) -> BoxedStrategy<Vec<Span<u16>>> {
    prop_oneof![
        4 => Just(vec![(1, 1023)]),
        2 => Just(vec![(1, u16::MAX)]),
        2 => vec(span(config.port()), 1..=4).prop_map(unique),
    ]
    .boxed()
}

/// A policy with so many rules.
pub fn model(
    config: &GeneratorConfig,
    rules: RangeInclusive<usize>,
) -> impl Strategy<Value = Model> + use<> {
    (
        any::<bool>(),
        select(vec![Action::Kernel, Action::Deny]),
        protect(config),
        select(vec![Logged::All, Logged::Deny, Logged::None]),
        vec(rule(config), rules),
    )
        .prop_map(|(enforce, default, protect, log, rules)| Model {
            enforce,
            default,
            protect,
            log,
            rules: named(rules),
        })
}

/// A policy with so many rules, and binds to try under it.
pub fn case(
    config: &GeneratorConfig,
    rules: RangeInclusive<usize>,
    tries: usize,
) -> impl Strategy<Value = (Model, Vec<OracleBind>)> + use<> {
    let config = config.clone();
    (model(&config, rules), vec(aim(&config), tries)).prop_map(move |(model, aims)| {
        let binds = binds(&config, &model, &aims);
        (model, binds)
    })
}

/// A policy whose rules name one port, one user and one cgroup each, so that a bind that fits each of
/// them somewhere fits few rules or none: the first match may be the last rule.
pub fn sparse_case(
    rules: RangeInclusive<usize>,
    tries: usize,
) -> impl Strategy<Value = (Model, Vec<OracleBind>)> {
    let config = GeneratorConfig {
        ports: (75..85).collect(),
        // 400 users make two pages of intervals.
        uids: (0..400).map(|n| 1000 + 3 * n).collect(),
        names: ["a", "b"].map(str::to_owned).to_vec(),
        depth: 1,
        beyond: false,
        ..GeneratorConfig::wide()
    };
    let one = (action(), config.port(), config.uid(), config.path());
    let rule = one.prop_map(|(action, port, uid, path)| ModelRule {
        ports: Some(vec![(port, port)]),
        users: Some(vec![(uid, uid)]),
        cgroups: Some(vec![path]),
        ..ModelRule::new(String::new(), action)
    });
    (vec(rule, rules), vec(aim(&config), tries)).prop_map(move |(rules, aims)| {
        let model = Model {
            enforce: true,
            default: Action::Kernel,
            protect: vec![(1, 1023)],
            log: Logged::All,
            rules: named(rules),
        };
        let binds = binds(&config, &model, &aims);
        (model, binds)
    })
}

fn named(mut rules: Vec<ModelRule>) -> Vec<ModelRule> {
    for (number, rule) in rules.iter_mut().enumerate() {
        rule.name = format!("rule-{number}");
    }
    rules
}
