//! A policy that was read, as it would be written: with a comment at every value that says where it comes from.

use super::{
    ABOVE, AddressText, AuditWord, CgroupText, DefaultWord, Id, LogWord, ModeWord, Notes,
    PolicyText, Ports, ProtocolWord, RuleText, ScopeWord, TestText, UnitText, VerdictWord, entries,
};
use crate::policy::{
    CgroupPattern, Component, Expectation, Log, Mode, Origins, Place, Policy, Rule, Scope,
};
use portguard_common::{Protocol, Verdict};

impl From<Verdict> for VerdictWord {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny => Self::Deny,
            Verdict::Kernel => Self::Kernel,
        }
    }
}

impl From<Protocol> for ProtocolWord {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
            Protocol::Dccp => Self::Dccp,
        }
    }
}

impl From<Log> for LogWord {
    fn from(log: Log) -> Self {
        match log {
            Log::All => Self::All,
            Log::Deny => Self::Deny,
            Log::None => Self::None,
        }
    }
}

/// A cgroup pattern as it is written.
fn cgroup_text(pattern: &CgroupPattern) -> String {
    let names = pattern.0.iter().map(|component| match component {
        Component::AnyDepth => "**",
        Component::Name(name) => name,
    });
    format!("/{}", names.collect::<Vec<_>>().join("/"))
}

impl From<&Rule> for RuleText {
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
            mode: rule.audit.then_some(AuditWord::Audit),
            log: rule.log.map(Into::into),
            notes: Notes::from([(ABOVE, rule.place.to_string())]),
        }
    }
}

impl From<&Expectation> for TestText {
    fn from(test: &Expectation) -> Self {
        let groups: Vec<Id> = test.groups.iter().map(|gid| Id::One(*gid)).collect();
        Self {
            user: Id::One(test.user),
            group: None,
            groups: (!groups.is_empty()).then_some(groups),
            cgroup: Some(CgroupText(format!("/{}", test.cgroup.join("/")))),
            port: Ports::One(test.port),
            protocol: Some(test.protocol.into()),
            address: Some(test.address.to_string()),
            expect: test.expect.into(),
            rule: test.rule.clone(),
        }
    }
}

impl From<&Policy> for PolicyText {
    /// With a comment at every value: where it comes from.
    fn from(policy: &Policy) -> Self {
        let origins = &policy.origins;
        Self {
            version: 1,
            mode: Some(match policy.mode {
                Mode::Enforce => ModeWord::Enforce,
                Mode::Audit => ModeWord::Audit,
            }),
            default: Some(match policy.default {
                Verdict::Deny => DefaultWord::Deny,
                Verdict::Allow | Verdict::Kernel => DefaultWord::Kernel,
            }),
            protect: Some(entries(&policy.protect)),
            scope: Some(match policy.scope {
                Scope::Host => ScopeWord::Host,
                Scope::All => ScopeWord::All,
            }),
            log: Some(policy.log.into()),
            hosts: None,
            rules: policy.rules.iter().map(RuleText::from).collect(),
            tests: policy.tests.iter().map(TestText::from).collect(),
            notes: origin_notes(origins),
        }
    }
}

fn origin_notes(origins: &Origins) -> Notes {
    let note = |origin: &Option<Place>| match origin {
        Some(place) => place.to_string(),
        None => "no file says otherwise".to_owned(),
    };
    Notes::from([
        ("mode", note(&origins.mode)),
        ("default", note(&origins.default)),
        ("protect", note(&origins.protect)),
        ("scope", note(&origins.scope)),
        ("log", note(&origins.log)),
    ])
}
