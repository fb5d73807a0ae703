//! Demands -> the fewest readable rules that meet them; their order depends on nothing else.

use super::demand::{Demand, Who};
use super::units::of_one_run;
use crate::analysis::finding::Finding;
use crate::analysis::lint::{Host, findings};
use crate::policy::{CgroupPattern, Component, Location, Policy, Rule, UnitPattern, merged};
use crate::yaml::{ABOVE, DefaultName, Id, Notes, PolicyFile, RuleEntry, entries};
use portguard_common::{Protocol, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

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
    /// Some of its ports were another reserved one at each start.
    any_reserved: bool,
}

/// Programs that bind whatever reserved port is free, as bindresvport(3) does.
const ANY_RESERVED: [&str; 10] = [
    "mount.nfs",
    "mount.nfs4",
    "umount.nfs",
    "umount.nfs4",
    "rpc.statd",
    "sm-notify",
    "rpc.mountd",
    "rpc.gssd",
    "ypbind",
    "showmount",
];

/// The ports that they try.
const RESERVED: RangeInclusive<u16> = 512..=1023;

fn takes_any_reserved(demand: &Demand) -> bool {
    let program = demand.from.rsplit('/').next().unwrap_or_default();
    RESERVED.contains(&demand.port) && ANY_RESERVED.contains(&program)
}

/// The policy that allows all demands. `default` decides all other binds; `names` knows the users.
#[must_use]
pub fn policy(
    demands: &[Demand],
    default: DefaultName,
    names: &dyn Fn(u32) -> Option<String>,
) -> PolicyFile {
    policy_beside(demands, default, names, BTreeSet::new())
}

/// The same for a file beside others, whose rules have the names in `used`.
#[must_use]
pub fn policy_beside(
    demands: &[Demand],
    default: DefaultName,
    names: &dyn Fn(u32) -> Option<String>,
    mut used: BTreeSet<String>,
) -> PolicyFile {
    let drafts = merged_drafts(drafts(demands));
    let above_1023 = demands.iter().map(|demand| demand.port);
    let above_1023 = above_1023.filter(|port| *port > 1023);
    let protect: Vec<_> = above_1023
        .map(|port| port..=port)
        .chain([1..=1023])
        .collect();
    let protect = merged(&protect);
    let rules = drafts.iter();
    let rules = rules.map(|draft| rule(draft, name(draft, names, &mut used)));
    let policy = Policy {
        protect: protect.clone(),
        rules: rules.collect(),
        ..Policy::default()
    };
    let found = findings(&policy, &Host::ANY);
    let unreachable: BTreeSet<&str> = (found.iter())
        .filter_map(Finding::unreachable_rule)
        .collect();
    let rules = policy.rules.iter().zip(&drafts);
    let rules = rules.filter(|(rule, _)| !unreachable.contains(rule.name.as_str()));
    PolicyFile {
        version: 1,
        default: Some(default),
        protect: Some(entries(&protect)),
        rules: rules
            .map(|(rule, draft)| entry(rule, draft, names))
            .collect(),
        ..PolicyFile::default()
    }
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
        if takes_any_reserved(demand) {
            draft.ports.extend(RESERVED);
            draft.any_reserved = true;
        }
        draft.ports.insert(demand.port);
        draft.protocols.insert(demand.protocol);
        draft.count += demand.count;
        draft.from.insert(demand.from.clone());
    }
    by_port.into_values().collect()
}

/// Drafts that differ in one field only become one: that allows nothing more.
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
    // A rule names owners or it does not, so drafts of users alone are not joined with others.
    let (of_users, owned): (Vec<_>, Vec<_>) =
        (drafts.into_iter()).partition(|draft| draft.owners.iter().any(Who::is_user));
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
    // The widest first: a narrower one after it is unreachable, and dropped.
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
        all.any_reserved |= draft.any_reserved;
    }
    joined.into_values().collect()
}

/// The rule that allows what a draft says.
fn rule(draft: &Draft, name: String) -> Rule {
    let location = Location {
        file: "suggested".into(),
        line: 1,
        column: 1,
    };
    let ports: Vec<_> = draft.ports.iter().map(|port| *port..=*port).collect();
    let users: Vec<_> = draft.users.iter().map(|uid| *uid..=*uid).collect();
    let (units, cgroups) = owners(draft);
    Rule {
        ports: Some(merged(&ports)),
        // `check` warns about an `allow` that names sctp, which cannot skip the capability check.
        protocols: (!draft.protocols.contains(&Protocol::Sctp))
            .then(|| draft.protocols.iter().copied().collect()),
        users: Some(merged(&users)),
        cgroups: (!cgroups.is_empty()).then_some(cgroups),
        units: (!units.is_empty()).then_some(units),
        ..Rule::of_all(name, Verdict::Allow, location)
    }
}

fn owners(draft: &Draft) -> (Vec<UnitPattern>, Vec<CgroupPattern>) {
    let (mut units, mut cgroups) = (Vec::new(), Vec::new());
    for who in &draft.owners {
        match who {
            Who::Unit(unit) => units.push(UnitPattern(unit.clone())),
            Who::Cgroup(path) => {
                let names = path.split('/').filter(|name| !name.is_empty());
                let names = names.map(|name| Component::Name(name.to_owned()));
                cgroups.push(CgroupPattern(names.collect()));
            }
            Who::User | Who::UserOfUnnamed => {}
        }
    }
    (units, cgroups)
}

/// The rule as YAML, its users by name and with a comment.
fn entry(rule: &Rule, draft: &Draft, names: &dyn Fn(u32) -> Option<String>) -> RuleEntry {
    RuleEntry {
        users: Some(users(&draft.users, names)),
        notes: Notes::from([(ABOVE, comment(draft))]),
        ..RuleEntry::from(rule)
    }
}

/// Users by name where they have one, the others as ranges of ids.
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

/// Whether the parser takes the word for a name and not for an id.
fn is_a_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// A short and unique name.
fn name(
    draft: &Draft,
    names: &dyn Fn(u32) -> Option<String>,
    used: &mut BTreeSet<String>,
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
        Some(Who::User | Who::UserOfUnnamed) | None => user(),
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
    while !used.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

fn comment(draft: &Draft) -> String {
    /// Nobody reads more programs than this.
    const FEW: usize = 4;
    let mut from: Vec<&str> = draft.from.iter().map(String::as_str).take(FEW).collect();
    if draft.from.len() > FEW {
        from.push("and others");
    }
    let from = from.join(", ");
    let seen = match draft.count {
        0 => from,
        1 => format!("1 bind: {from}"),
        count => format!("{count} binds: {from}"),
    };
    let mut lines = vec![seen];
    let notes: BTreeSet<&str> = draft.owners.iter().filter_map(of_one_run).collect();
    lines.extend(notes.into_iter().map(str::to_owned));
    if draft.any_reserved {
        let text =
            "The port is another at each start: any reserved one that bindresvport(3) may take.";
        lines.push(text.to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_bindresvport_become_a_range_with_a_comment() {
        let demand = |port, from: &str| Demand {
            who: Who::Unit("rpc-statd.service".into()),
            uids: [114; 2],
            port,
            protocol: Protocol::Udp,
            address: None,
            cgroup: None,
            count: 1,
            from: from.into(),
        };
        let of = |demands: &[Demand]| policy(demands, DefaultName::Kernel, &|_| None).to_string();
        let text = of(&[demand(741, "/sbin/rpc.statd"), demand(111, "/sbin/rpcbind")]);
        assert!(text.contains("ports: [111, \"512-1023\"]"), "{text}");
        assert!(
            text.contains("# The port is another at each start: "),
            "{text}"
        );
        let text = of(&[demand(741, "/sbin/other")]);
        assert!(
            text.contains("ports: [741]\n") && !text.contains("at each start"),
            "{text}"
        );
    }

    #[test]
    fn all_unreachable_rules_are_dropped_however_many() {
        let demand = |who: Who, number: u16| Demand {
            who,
            uids: [u32::from(number); 2],
            port: number,
            protocol: Protocol::Tcp,
            address: None,
            cgroup: None,
            count: 1,
            from: "/bin/server".into(),
        };
        let unit = || Who::Unit("server.service".into());
        let demands: Vec<Demand> = (1..=150)
            .flat_map(|number| [demand(Who::User, number), demand(unit(), number)])
            .collect();
        let suggested = policy(&demands, DefaultName::Deny, &|_| None);
        assert_eq!(suggested.rules.len(), 150);
        assert!(suggested.rules.iter().all(|rule| rule.units.is_none()));
    }
}
