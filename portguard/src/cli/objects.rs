//! The shapes that the JSON of several commands has in common; docs/cli-json.md lists them.

use portguard_common::{Protocol, Verdict};
use portguard_policy::policy::{Diagnostic, Diagnostics, Location, Severity};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A bind that a command decides or explains.
pub(super) struct Question<'a> {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) address: IpAddr,
    pub(super) uid: u32,
    pub(super) euid: u32,
    pub(super) gids: &'a [u32],
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
