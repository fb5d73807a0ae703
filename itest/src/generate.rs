//! Random policies and binds for the properties.
//!
//! Ports, users and cgroups come from small clusters, and a bind is often made beside the edge of a
//! range of its policy, so that hits, overlaps and off-by-one mistakes are frequent instead of rare.

use crate::oracle::{Action, Logged, Model, ModelRule, OracleBind, Path, Proto, Span};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::ops::RangeInclusive;

/// The largest uid: the one above it means "none" to the kernel.
pub const LAST_UID: u32 = u32::MAX - 1;

/// What policies and binds are drawn from.
#[derive(Clone, Debug)]
pub struct World {
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
}

impl World {
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
            names: ["a", "b", "a.service", "worker"]
                .map(str::to_owned)
                .to_vec(),
            base: vec![base.to_owned()],
            depth: 3,
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
fn rule(world: &World) -> impl Strategy<Value = ModelRule> + use<> {
    (
        action(),
        weighted(0.9, vec(span(world.port()), 1..=4)),
        weighted(0.3, vec(select(world.protocols.clone()), 1..=2)),
        weighted(0.7, vec(span(world.uid()), 1..=4)),
        weighted(0.4, vec(world.path(), 1..=3)),
    )
        .prop_map(|(action, ports, protocols, users, cgroups)| ModelRule {
            name: String::new(),
            action,
            ports: ports.map(unique),
            protocols: protocols.map(unique),
            users: users.map(unique),
            cgroups: cgroups.map(unique),
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

fn protect(world: &World) -> BoxedStrategy<Vec<Span<u16>>> {
    prop_oneof![
        4 => Just(vec![(1, 1023)]),
        2 => Just(vec![(1, u16::MAX)]),
        2 => vec(span(world.port()), 1..=4).prop_map(unique),
    ]
    .boxed()
}

/// A policy with so many rules.
pub fn model(world: &World, rules: RangeInclusive<usize>) -> impl Strategy<Value = Model> + use<> {
    (
        any::<bool>(),
        select(vec![Action::Kernel, Action::Deny]),
        protect(world),
        select(vec![Logged::All, Logged::Deny, Logged::None]),
        vec(rule(world), rules),
    )
        .prop_map(|(enforce, default, protect, log, mut rules)| {
            for (number, rule) in rules.iter_mut().enumerate() {
                rule.name = format!("rule-{number}");
            }
            Model {
                enforce,
                default,
                protect,
                log,
                rules,
            }
        })
}

/// Where a bind is made, relative to the policy that it is made under.
#[derive(Clone, Debug)]
struct Aim {
    port: Near<u16>,
    protocol: Proto,
    uid: Near<u32>,
    /// `None`: the same as the real uid.
    euid: Option<Near<u32>>,
    path: (Option<Index>, Path, Twist),
}

/// A number of its own, or one beside an edge of the policy's ranges.
#[derive(Clone, Debug)]
struct Near<T> {
    own: T,
    edge: Option<(Index, i8)>,
}

/// What becomes of a path taken from the policy.
#[derive(Clone, Copy, Debug)]
enum Twist {
    AsIs,
    Below,
    FarBelow,
    Above,
    Longer,
    Shorter,
}

fn near<T: std::fmt::Debug + Clone + 'static>(
    own: BoxedStrategy<T>,
    beyond: bool,
) -> impl Strategy<Value = Near<T>> {
    let delta = if beyond { -1..=1i8 } else { 0..=0i8 };
    (own, weighted(0.6, (any::<Index>(), delta))).prop_map(|(own, edge)| Near { own, edge })
}

fn aim(world: &World) -> impl Strategy<Value = Aim> + use<> {
    let twist = select(vec![
        Twist::AsIs,
        Twist::Below,
        Twist::FarBelow,
        Twist::Above,
        Twist::Longer,
        Twist::Shorter,
    ]);
    (
        near(world.port(), true),
        select(world.protocols.clone()),
        near(world.uid(), world.beyond),
        weighted(0.3, near(world.uid(), world.beyond)),
        (weighted(0.6, any::<Index>()), world.path(), twist),
    )
        .prop_map(|(port, protocol, uid, euid, path)| Aim {
            port,
            protocol,
            uid,
            euid,
            path,
        })
}

/// The edges of a policy's ranges, and its paths.
struct Edges {
    ports: Vec<u16>,
    uids: Vec<u32>,
    paths: Vec<Path>,
}

impl Edges {
    fn of(model: &Model) -> Self {
        let rules = || model.rules.iter();
        let ends = |&(first, last): &Span<u16>| [first, last];
        Self {
            ports: rules()
                .filter_map(|rule| rule.ports.as_ref())
                .chain([&model.protect])
                .flat_map(|spans| spans.iter().flat_map(ends))
                .collect(),
            uids: rules()
                .filter_map(|rule| rule.users.as_ref())
                .flat_map(|spans| spans.iter().flat_map(|&(first, last)| [first, last]))
                .collect(),
            paths: rules()
                .filter_map(|rule| rule.cgroups.clone())
                .flatten()
                .collect(),
        }
    }

    fn port(&self, near: &Near<u16>) -> u16 {
        match near.edge {
            Some((index, delta)) if !self.ports.is_empty() => {
                index.get(&self.ports).saturating_add_signed(delta.into())
            }
            _ => near.own,
        }
    }

    fn uid(&self, near: &Near<u32>) -> u32 {
        match near.edge {
            Some((index, delta)) if !self.uids.is_empty() => index
                .get(&self.uids)
                .saturating_add_signed(delta.into())
                .min(LAST_UID),
            _ => near.own,
        }
    }

    fn path(&self, world: &World, (index, own, twist): &(Option<Index>, Path, Twist)) -> Path {
        let mut path = match index {
            Some(index) if !self.paths.is_empty() => index.get(&self.paths).clone(),
            _ => return own.clone(),
        };
        match twist {
            Twist::Below => path.push("worker".to_owned()),
            // A real tree is kept flat; only a decision alone may be asked of a deep one.
            Twist::FarBelow if world.beyond => {
                path.extend((0..18).map(|level| format!("level-{level}")));
            }
            Twist::Above if path.len() > world.base.len() => {
                path.pop();
            }
            Twist::Longer if world.beyond => {
                if let Some(last) = path.last_mut() {
                    last.push('x');
                }
            }
            Twist::Shorter if world.beyond => {
                path.last_mut()
                    .filter(|last| last.len() > 1)
                    .map(String::pop);
            }
            _ => {}
        }
        path
    }

    fn bind(&self, world: &World, aim: &Aim) -> OracleBind {
        let uid = self.uid(&aim.uid);
        OracleBind {
            port: self.port(&aim.port),
            protocol: aim.protocol,
            uid,
            euid: aim.euid.as_ref().map_or(uid, |near| self.uid(near)),
            cgroup: self.path(world, &aim.path),
        }
    }
}

/// A policy with so many rules, and binds to try under it.
pub fn case(
    world: &World,
    rules: RangeInclusive<usize>,
    binds: usize,
) -> impl Strategy<Value = (Model, Vec<OracleBind>)> + use<> {
    let world = world.clone();
    (model(&world, rules), vec(aim(&world), binds)).prop_map(move |(model, aims)| {
        let edges = Edges::of(&model);
        let binds = aims.iter().map(|aim| edges.bind(&world, aim)).collect();
        (model, binds)
    })
}
