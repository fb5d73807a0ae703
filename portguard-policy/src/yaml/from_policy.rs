//! A policy as a policy file, with the location of every value as a comment.

use super::{
    ABOVE, AddressText, AuditName, CgroupText, DefaultName, ErrnoName, Id, Notes, PolicyFile,
    Ports, ProtocolName, RuleEntry, TestEntry, UnitText, VerdictName, entries,
};
use crate::policy::{
    AccountKind, CgroupPattern, Component, GivenNames, Location, Policy, PolicyTest, Rule,
    SettingLocations,
};
use portguard_common::{Errno, Protocol, Verdict};

impl From<Verdict> for VerdictName {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny => Self::Deny,
            Verdict::Kernel => Self::Kernel,
        }
    }
}

impl From<Protocol> for ProtocolName {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
            Protocol::Dccp => Self::Dccp,
        }
    }
}

/// The name of an errno that is not the default.
const fn errno_name(errno: Errno) -> Option<ErrnoName> {
    match errno {
        Errno::Acces => None,
        Errno::Perm => Some(ErrnoName::Perm),
        Errno::AddrInUse => Some(ErrnoName::AddrInUse),
    }
}

/// A cgroup pattern in the form of policies.
fn cgroup_text(pattern: &CgroupPattern) -> String {
    let names = pattern.0.iter().map(|component| match component {
        Component::AnyDepth => "**",
        Component::Name(name) => name,
    });
    format!("/{}", names.collect::<Vec<_>>().join("/"))
}

impl From<&Rule> for RuleEntry {
    fn from(rule: &Rule) -> Self {
        let cgroup = |pattern| CgroupText(cgroup_text(pattern));
        let address = |network: &ipnet::IpNet| {
            AddressText(match network.prefix_len() == network.max_prefix_len() {
                true => network.addr().to_string(),
                false => network.to_string(),
            })
        };
        Self {
            name: rule.name.clone(),
            action: rule.action.into(),
            ports: rule.ports.as_deref().map(entries),
            protocols: (rule.protocols.as_ref())
                .map(|protocols| protocols.iter().map(|p| (*p).into()).collect()),
            users: rule.users.as_deref().map(entries),
            groups: rule.groups.as_deref().map(entries),
            cgroups: (rule.cgroups.as_ref()).map(|all| all.iter().map(cgroup).collect()),
            units: (rule.units.as_ref())
                .map(|units| units.iter().map(|unit| UnitText(unit.0.clone())).collect()),
            addresses: (rule.addresses.as_ref()).map(|all| all.iter().map(address).collect()),
            mode: rule.audit.then_some(AuditName::Audit),
            log: rule.log,
            errno: errno_name(rule.errno),
            notes: Notes::from([(ABOVE, rule.location.to_string())]),
        }
    }
}

impl From<&PolicyTest> for TestEntry {
    fn from(test: &PolicyTest) -> Self {
        let groups: Vec<Id> = test.groups.iter().map(|gid| Id::One(*gid)).collect();
        Self {
            user: Id::One(test.user),
            group: None,
            groups: (!groups.is_empty()).then_some(groups),
            cgroup: Some(CgroupText(format!("/{}", test.cgroup.join("/")))),
            unit: None,
            port: Ports::One(test.port),
            protocol: Some(test.protocol.into()),
            address: Some(test.address.to_string()),
            expect: test.expect.into(),
            rule: test.rule.clone(),
        }
    }
}

impl From<&Policy> for PolicyFile {
    /// With the location of every value as a comment.
    fn from(policy: &Policy) -> Self {
        Self {
            version: 1,
            mode: Some(policy.mode),
            default: Some(match policy.default {
                Verdict::Deny => DefaultName::Deny,
                Verdict::Allow | Verdict::Kernel => DefaultName::Kernel,
            }),
            protect: Some(entries(&policy.protect)),
            scope: Some(policy.scope),
            log: Some(policy.log),
            hosts: None,
            rules: policy
                .rules
                .iter()
                .map(|rule| entry(policy, rule))
                .collect(),
            tests: policy.tests.iter().map(|of| test(policy, of)).collect(),
            notes: location_notes(&policy.setting_locations),
        }
    }
}

/// Names in place of ids that are symbols for them.
fn name_symbols(given: &GivenNames, kind: AccountKind, ids: &mut [Id]) {
    let names = match kind {
        AccountKind::User => &given.users,
        AccountKind::Group => &given.groups,
    };
    for id in ids.iter_mut().filter(|_| given.symbolic) {
        if let Id::One(number) = id
            && let Some(name) = names.get(number)
        {
            *id = Id::Text(name.clone());
        }
    }
}

fn test(policy: &Policy, test: &PolicyTest) -> TestEntry {
    let mut entry = TestEntry::from(test);
    let user = std::slice::from_mut(&mut entry.user);
    name_symbols(&policy.given, AccountKind::User, user);
    let groups = entry.groups.as_deref_mut().unwrap_or_default();
    name_symbols(&policy.given, AccountKind::Group, groups);
    entry
}

/// A rule with the names that are unknown here, without which an empty list would be left.
fn entry(policy: &Policy, rule: &Rule) -> RuleEntry {
    let mut entry = RuleEntry::from(rule);
    let (users, groups) = (entry.users.as_deref_mut(), entry.groups.as_deref_mut());
    name_symbols(&policy.given, AccountKind::User, users.unwrap_or_default());
    name_symbols(
        &policy.given,
        AccountKind::Group,
        groups.unwrap_or_default(),
    );
    for unknown in policy.unknown.iter().filter(|of| of.rule == rule.name) {
        let list = match unknown.kind {
            AccountKind::User => &mut entry.users,
            AccountKind::Group => &mut entry.groups,
        };
        list.get_or_insert_default()
            .push(Id::Text(unknown.name.clone()));
    }
    entry
}

fn location_notes(locations: &SettingLocations) -> Notes {
    let note = |location: &Option<Location>| match location {
        Some(location) => location.to_string(),
        None => "built-in default".to_owned(),
    };
    let protect = match locations.protect.as_slice() {
        [] => note(&None),
        all => {
            let all = all.iter().map(|(location, _)| location.to_string());
            all.collect::<Vec<_>>().join(", ")
        }
    };
    Notes::from([
        ("mode", note(&locations.mode)),
        ("default", note(&locations.default)),
        ("protect", protect),
        ("scope", note(&locations.scope)),
        ("log", note(&locations.log)),
    ])
}
