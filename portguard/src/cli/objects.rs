//! The shapes that the JSON of several commands has in common; docs/cli-json.md lists them.

use portguard_common::{Protocol, Verdict};
use portguard_policy::analysis::space::{BindSpace, Callers, Effect, EffectByRule, Row, UidRanges};
use portguard_policy::compile::{Owner, Setgid};
use portguard_policy::policy::{Diagnostic, Diagnostics, Location, Severity};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A bind that a command decides or explains.
pub(super) struct Question<'a> {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) address: IpAddr,
    pub(super) uid: u32,
    pub(super) euid: u32,
    /// Those that every rule looks at.
    pub(super) gids: &'a [u32],
    /// The real and the effective gid where they differ.
    pub(super) setgid: Option<Setgid>,
    /// The owners of the caller's user namespaces.
    pub(super) owners: &'a [Owner],
    /// Components below the root of the tree.
    pub(super) cgroup: &'a [String],
}

/// The bind that a decision is about.
pub(super) fn bind(question: &Question<'_>) -> Value {
    json!({
        "port": question.port,
        "protocol": question.protocol.as_str(),
        "address": question.address,
        "uid": question.uid,
        "euid": question.euid,
        "gids": question.gids,
        "setgid": question.setgid.map(|Setgid { gid, egid }| json!({ "gid": gid, "egid": egid })),
        "userns_owners": question.owners.iter().map(|owner| owner.uid).collect::<Vec<_>>(),
        "cgroup": format!("/{}", question.cgroup.join("/")),
    })
}

/// Where something stands in a policy file.
pub(super) fn location(location: &Location) -> Value {
    json!({ "file": location.file, "line": location.line, "column": location.column })
}

/// A verdict, or null where nothing is decided.
pub(super) fn verdict(verdict: Option<Verdict>) -> Value {
    json!(verdict.map(Verdict::as_str))
}

/// Errors and warnings of policy files.
pub(super) fn diagnostics(diagnostics: &Diagnostics) -> Vec<Value> {
    let object = |diagnostic: &Diagnostic| {
        json!({
            "severity": match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "location": location(&diagnostic.location),
            "message": diagnostic.message,
            "help": diagnostic.help,
        })
    };
    diagnostics.iter().map(object).collect()
}

/// What a policy does with a set of binds.
pub(super) fn effect(effect: &EffectByRule<'_>) -> Value {
    let (of_policy, enforced) = match effect.effect {
        Effect::Allow => (Verdict::Allow, true),
        Effect::Deny(_) => (Verdict::Deny, true),
        Effect::Kernel => (Verdict::Kernel, true),
        Effect::AuditAllow => (Verdict::Allow, false),
        Effect::AuditDeny => (Verdict::Deny, false),
    };
    let decided = effect.is_decided();
    json!({
        "decided": decided,
        "verdict": verdict(decided.then_some(of_policy)),
        "enforced": decided.then_some(enforced),
        "errno": effect.effect.errno(),
        "rule": effect.rule(),
    })
}

/// A set of binds: ports, callers, cgroups and addresses.
pub(super) fn binds<T>(space: &BindSpace<'_>, row: &Row<T>) -> Value {
    let users = match space.callers(&row.users) {
        Callers::Same(both) => json!({ "uids": uids(&both) }),
        Callers::Mixed(real, effective) => {
            json!({ "real": uids(&real), "effective": uids(&effective) })
        }
    };
    let ports = row.ports.each_ref().map(|ports| {
        let ranges = ports.iter().cloned().map(RangeInclusive::into_inner);
        ranges.collect::<Vec<(u16, u16)>>()
    });
    let [tcp, udp, sctp, dccp] = ports;
    json!({
        "ports": { "tcp": tcp, "udp": udp, "sctp": sctp, "dccp": dccp },
        "users": users,
        "groups": row.fields.groups,
        "cgroups": row.fields.cgroups,
        "addresses": row.fields.addresses,
    })
}

fn uids(uids: &UidRanges) -> Value {
    match uids {
        UidRanges::Are(uids) => json!({ "are": uids }),
        UidRanges::AreNot(others) => json!({ "are_not": others }),
    }
}
