//! Demands -> the fewest readable rules that meet them, in an order that depends on nothing else.

use crate::analysis::lint::{Host, lint};
use crate::policy::{SystemNames, merged, parse};
use crate::yaml::{
    ABOVE, AuditName, CgroupText, DefaultName, Id, Notes, PolicyFile, Ports, ProtocolName,
    RuleEntry, UnitText, VerdictName, entries,
};
use portguard_common::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

/// Who a rule is for, beside the users.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A systemd unit.
    Unit(String),
    /// A cgroup, by its path.
    Cgroup(String),
    /// The user, wherever he is.
    User,
}

/// A bind that must be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Its owner.
    pub who: Who,
    /// Real and effective uid.
    pub uids: [u32; 2],
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// How often it was seen.
    pub count: u64,
    /// Where it comes from: a program, a file.
    pub from: String,
}

type Users = BTreeSet<u32>;
type Protocols = BTreeSet<Protocol>;

/// A rule in the making.
#[derive(Clone, Debug, Default)]
struct Draft {
    owners: BTreeSet<Who>,
    users: Users,
    ports: BTreeSet<u16>,
    protocols: Protocols,
    count: u64,
    from: BTreeSet<String>,
}

/// The policy that allows all demands. `default` is what becomes of all other binds; `names` knows the users.
#[must_use]
pub fn policy(
    demands: &[Demand],
    default: DefaultName,
    names: &dyn Fn(u32) -> Option<String>,
) -> PolicyFile {
    let drafts = merged_drafts(drafts(demands));
    let beyond: Vec<RangeInclusive<u16>> = (demands.iter())
        .map(|demand| demand.port)
        .filter(|port| *port > 1023)
        .map(|port| port..=port)
        .collect();
    let protect = merged(&[vec![1..=1023], beyond].concat());
    let mut taken = BTreeSet::new();
    let mut text = PolicyFile {
        version: 1,
        default: Some(default),
        protect: Some(entries(&protect)),
        rules: drafts
            .iter()
            .map(|draft| rule(draft, names, &mut taken))
            .collect(),
        ..PolicyFile::default()
    };
    without_dead_rules(&mut text);
    text
}

/// A draft for each owner, users and protocols.
fn drafts(demands: &[Demand]) -> Vec<Draft> {
    let mut by_port: BTreeMap<(&Who, Users, u16), Draft> = BTreeMap::new();
    for demand in demands {
        let users = Users::from(demand.uids);
        let key = (&demand.who, users.clone(), demand.port);
        let draft = by_port.entry(key).or_default();
        draft.owners.insert(demand.who.clone());
        draft.users = users;
        draft.ports.insert(demand.port);
        draft.protocols.insert(demand.protocol);
        draft.count += demand.count;
        draft.from.insert(demand.from.clone());
    }
    by_port.into_values().collect()
}

/// Drafts that differ in one field alone become one: that allows nothing more.
fn merged_drafts(drafts: Vec<Draft>) -> Vec<Draft> {
    let drafts = join(drafts, |draft| {
        (
            draft.owners.clone(),
            draft.users.clone(),
            BTreeSet::new(),
            draft.protocols.clone(),
        )
    });
    let drafts = join(drafts, |draft| {
        (
            draft.owners.clone(),
            BTreeSet::new(),
            draft.ports.clone(),
            draft.protocols.clone(),
        )
    });
    // The user alone is no owner like the others: a rule names owners or it does not.
    let (of_users, owned): (Vec<_>, Vec<_>) =
        (drafts.into_iter()).partition(|draft| draft.owners.contains(&Who::User));
    let (cgroups, units): (Vec<_>, Vec<_>) = (owned.into_iter())
        .partition(|draft| draft.owners.iter().any(|who| matches!(who, Who::Cgroup(_))));
    let by_owner = |drafts| {
        join(drafts, |draft: &Draft| {
            (
                BTreeSet::new(),
                draft.users.clone(),
                draft.ports.clone(),
                draft.protocols.clone(),
            )
        })
    };
    // The widest first: a narrower one behind it never decides, and is dropped.
    [of_users, by_owner(units), by_owner(cgroups)].concat()
}

type Key = (BTreeSet<Who>, Users, BTreeSet<u16>, Protocols);

fn join(drafts: Vec<Draft>, key: impl Fn(&Draft) -> Key) -> Vec<Draft> {
    let mut joined: BTreeMap<Key, Draft> = BTreeMap::new();
    for draft in drafts {
        let all = joined.entry(key(&draft)).or_default();
        all.owners.extend(draft.owners);
        all.users.extend(draft.users);
        all.ports.extend(draft.ports);
        all.protocols.extend(draft.protocols);
        all.count += draft.count;
        all.from.extend(draft.from);
    }
    joined.into_values().collect()
}

fn rule(
    draft: &Draft,
    names: &dyn Fn(u32) -> Option<String>,
    taken: &mut BTreeSet<String>,
) -> RuleEntry {
    let ports: Vec<RangeInclusive<u16>> = draft.ports.iter().map(|port| *port..=*port).collect();
    let (units, cgroups) = owners(draft);
    RuleEntry {
        name: name(draft, names, taken),
        action: VerdictName::Allow,
        ports: Some(entries::<u16, Ports>(&merged(&ports))),
        // An `allow` that names sctp is warned about: it spares nobody the capability.
        protocols: (!draft.protocols.contains(&Protocol::Sctp)).then(|| {
            draft
                .protocols
                .iter()
                .map(|p| ProtocolName::from(*p))
                .collect()
        }),
        users: Some(users(&draft.users, names)),
        groups: None,
        cgroups: (!cgroups.is_empty()).then_some(cgroups),
        units: (!units.is_empty()).then_some(units),
        addresses: None,
        mode: None::<AuditName>,
        log: None,
        notes: Notes::from([(ABOVE, comment(draft))]),
    }
}

fn owners(draft: &Draft) -> (Vec<UnitText>, Vec<CgroupText>) {
    let (mut units, mut cgroups) = (Vec::new(), Vec::new());
    for who in &draft.owners {
        match who {
            Who::Unit(unit) => units.push(UnitText(unit.clone())),
            Who::Cgroup(path) => cgroups.push(CgroupText(path.clone())),
            Who::User => {}
        }
    }
    (units, cgroups)
}

/// Names where there are some, ranges of the others.
fn users(uids: &Users, names: &dyn Fn(u32) -> Option<String>) -> Vec<Id> {
    let named = |uid: &u32| names(*uid).filter(|name| is_a_name(name));
    let (known, others): (Vec<u32>, Vec<u32>) = uids.iter().partition(|uid| named(uid).is_some());
    let mut all: Vec<Id> = known
        .iter()
        .filter_map(|uid| named(uid).map(Id::Text))
        .collect();
    let others: Vec<RangeInclusive<u32>> = others.iter().map(|uid| *uid..=*uid).collect();
    all.extend(entries::<u32, Id>(&merged(&others)));
    all
}

/// Whether a policy reads the word as a name and not as an id.
fn is_a_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// A short name that no other rule has.
fn name(
    draft: &Draft,
    names: &dyn Fn(u32) -> Option<String>,
    taken: &mut BTreeSet<String>,
) -> String {
    let user = || {
        let uid = draft.users.iter().next_back().copied().unwrap_or(0);
        names(uid).unwrap_or_else(|| format!("uid-{uid}"))
    };
    let of_owner = match draft.owners.iter().next() {
        Some(Who::Unit(unit)) => unit
            .rsplit_once('.')
            .map_or(unit.as_str(), |(name, _)| name)
            .to_owned(),
        Some(Who::Cgroup(path)) => path.rsplit('/').next().unwrap_or_default().to_owned(),
        Some(Who::User) | None => user(),
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.@".contains(c) {
            c
        } else {
            '-'
        }
    };
    let base: String = of_owner.chars().map(plain).take(48).collect();
    let base = base.trim_matches('-');
    let base = if base.is_empty() { "rule" } else { base };
    let mut name = base.to_owned();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

fn comment(draft: &Draft) -> String {
    /// More programs than this nobody reads.
    const FEW: usize = 4;
    let mut from: Vec<&str> = draft.from.iter().map(String::as_str).take(FEW).collect();
    if draft.from.len() > FEW {
        from.push("and others");
    }
    let from = from.join(", ");
    match draft.count {
        0 => from,
        1 => format!("1 bind: {from}"),
        count => format!("{count} binds: {from}"),
    }
}

/// Drops rules that the others make needless, by the warnings of `check`.
fn without_dead_rules(text: &mut PolicyFile) {
    let Ok(mut loaded) = parse(
        Path::new("suggested"),
        &text.to_string(),
        &SystemNames::LOCAL,
    ) else {
        return;
    };
    lint(&mut loaded, &Host::ANY);
    let dead: BTreeSet<String> = (loaded.warnings.iter())
        .filter(|warning| warning.message.contains("` never decides: "))
        .filter_map(|warning| Some(warning.message.split('`').nth(1)?.to_owned()))
        .collect();
    text.rules.retain(|rule| !dead.contains(&rule.name));
}
