//! Random binds, most of them at the edge of a range of a policy or inside a rule.

use super::config::{GeneratorConfig, LAST_UID};
use super::fields;
use crate::oracle::{Action, Model, ModelRule, OracleBind, Path, Proto, Span};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::net::IpAddr;

/// A bind relative to the policy that it is tried under.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    port: Near<u16>,
    protocol: Proto,
    uid: Near<u32>,
    /// `None`: the same as the real uid.
    euid: Option<Near<u32>>,
    gid: u32,
    /// `None`: the same as the real gid.
    egid: Option<u32>,
    groups: Vec<u32>,
    owners: Vec<(Near<u32>, u32)>,
    address: (IpAddr, bool),
    path: (Option<Index>, Path, Twist),
    /// A rule whose first port, user and cgroup it takes.
    rule: Option<Index>,
}

/// A number, or one at the edge of a range of the policy.
#[derive(Clone, Debug)]
struct Near<T> {
    own: T,
    edge: Option<(Index, i8)>,
}

/// How a path of the policy is changed.
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

pub(super) fn aim(config: &GeneratorConfig) -> impl Strategy<Value = Aim> + use<> {
    let twist = select(vec![
        Twist::AsIs,
        Twist::Below,
        Twist::FarBelow,
        Twist::Above,
        Twist::Longer,
        Twist::Shorter,
    ]);
    (
        near(config.port(), true),
        select(config.protocols.clone()),
        near(config.uid(), config.beyond),
        weighted(0.3, near(config.uid(), config.beyond)),
        (weighted(0.6, any::<Index>()), config.path(), twist),
        (gids(), fields::address(), owners(config)),
        weighted(0.25, any::<Index>()),
    )
        .prop_map(
            |(port, protocol, uid, euid, path, ((gid, egid, groups), address, owners), rule)| Aim {
                port,
                protocol,
                uid,
                euid,
                gid,
                egid,
                groups,
                owners,
                address,
                path,
                rule,
            },
        )
}

/// Real, effective and supplementary gids. The first two differ where a program has the setgid bit.
fn gids() -> impl Strategy<Value = (u32, Option<u32>, Vec<u32>)> {
    (
        fields::gid(),
        weighted(0.3, fields::gid()),
        fields::groups(),
    )
}

/// The owners of user namespaces: mostly none. Real binds are made in the initial one.
fn owners(config: &GeneratorConfig) -> BoxedStrategy<Vec<(Near<u32>, u32)>> {
    let owner = (near(config.uid(), config.beyond), fields::gid());
    match config.beyond {
        true => prop_oneof![3 => Just(Vec::new()), 1 => vec(owner, 1..=2)].boxed(),
        false => Just(Vec::new()).boxed(),
    }
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
                .filter_map(|rule| rule.cgroups.as_ref())
                .flatten()
                .map(plain)
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

    fn path(
        &self,
        config: &GeneratorConfig,
        (index, own, twist): &(Option<Index>, Path, Twist),
    ) -> Path {
        let mut path = match index {
            Some(index) if !self.paths.is_empty() => index.get(&self.paths).clone(),
            _ => return own.clone(),
        };
        match twist {
            Twist::Below => path.push("worker".to_owned()),
            // Real trees are kept flat; deep paths are for decisions without real binds.
            Twist::FarBelow if config.beyond => {
                path.extend((0..18).map(|level| format!("level-{level}")));
            }
            Twist::Above if path.len() > config.base.len() => {
                path.pop();
            }
            Twist::Longer if config.beyond => {
                if let Some(last) = path.last_mut() {
                    last.push('x');
                }
            }
            Twist::Shorter if config.beyond => {
                path.last_mut()
                    .filter(|last| last.len() > 1)
                    .map(String::pop);
            }
            _ => {}
        }
        path
    }

    fn bind(&self, config: &GeneratorConfig, aim: &Aim) -> OracleBind {
        let uid = self.uid(&aim.uid);
        OracleBind {
            port: self.port(&aim.port),
            protocol: aim.protocol,
            uid,
            euid: aim.euid.as_ref().map_or(uid, |near| self.uid(near)),
            gid: aim.gid,
            egid: aim.egid.unwrap_or(aim.gid),
            groups: aim.groups.clone(),
            owners: (aim.owners.iter())
                .map(|(uid, gid)| (self.uid(uid), *gid))
                .collect(),
            cgroup: self.path(config, &aim.path),
            address: aim.address.0,
            v6only: aim.address.1,
        }
    }
}

/// Changes a bind so that a rule matches it, as far as possible.
fn hit(bind: &mut OracleBind, rule: &ModelRule) {
    fn first<T>(entries: Option<&Vec<T>>) -> Option<&T> {
        entries.and_then(|entries| entries.first())
    }
    if let Some(&(port, _)) = first(rule.ports.as_ref()) {
        bind.port = port;
    }
    if let Some(&protocol) = first(rule.protocols.as_ref()) {
        bind.protocol = protocol;
    }
    if let Some(&(uid, _)) = first(rule.users.as_ref()) {
        match bind.owners.last_mut() {
            Some((owner, _)) if rule.action == Action::Deny => *owner = uid,
            _ => (bind.uid, bind.euid) = (uid, uid),
        }
    }
    if let Some(path) = first(rule.cgroups.as_ref()) {
        bind.cgroup = plain(path);
    }
    if let Some(&(gid, _)) = first(rule.groups.as_ref()) {
        match bind.owners.first_mut() {
            Some((_, owner)) if rule.action == Action::Deny => *owner = gid,
            // As a supplementary one, and as the only one.
            _ if bind.groups.is_empty() => (bind.gid, bind.egid) = (gid, gid),
            _ => bind.groups.push(gid),
        }
    }
}

/// A path that a pattern matches.
fn plain(pattern: &Path) -> Path {
    let names = pattern.iter().filter(|name| *name != "**");
    names
        .map(|name| match name.as_str() {
            "*" => "a".to_owned(),
            _ => name.replace('*', ""),
        })
        .filter(|name| !name.is_empty())
        .collect()
}

pub(super) fn binds(config: &GeneratorConfig, model: &Model, aims: &[Aim]) -> Vec<OracleBind> {
    let edges = Edges::of(model);
    aims.iter()
        .map(|aim| {
            let mut bind = edges.bind(config, aim);
            if let Some(index) = aim.rule.filter(|_| !model.rules.is_empty()) {
                hit(&mut bind, index.get(&model.rules));
            }
            bind
        })
        .collect()
}
