//! The types of a policy file, for the JSON Schema and for the policies that portguard writes.

mod emit;
mod from_policy;
mod schema;

pub use schema::schema;

use crate::policy::{Log, Mode, Scope};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Comments by key: at the end of the key's line, or above everything for [`ABOVE`].
pub type Notes = BTreeMap<&'static str, String>;

/// The key of the comment above everything.
pub const ABOVE: &str = "";

/// A portguard policy file.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "portguard policy")]
pub struct PolicyFile {
    /// Version of the format
    #[schemars(extend("const" = 1))]
    pub version: u8,
    /// Whether verdicts are enforced
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mode")]
    pub mode: Option<Mode>,
    /// The verdict if no rule matches
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DefaultName")]
    pub default: Option<DefaultName>,
    /// Ports that the policy decides; 1-1023 if absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Ports>", length(min = 1))]
    pub protect: Option<Vec<Ports>>,
    /// Network namespaces: the initial one only, or every one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Scope")]
    pub scope: Option<Scope>,
    /// Decisions that are reported
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Log")]
    pub log: Option<Log>,
    /// Names of the hosts that the file is for; * and ? are wildcards
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub hosts: Option<Vec<String>>,
    /// Rules; the first that matches decides
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleEntry>,
    /// Binds and their expected verdicts
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestEntry>,
    /// Comments.
    #[serde(skip)]
    pub notes: Notes,
}

/// A rule: every field named must match, within a field any entry may
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub struct RuleEntry {
    /// Name, unique in the policy
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// The verdict
    pub action: VerdictName,
    /// Ports; all if absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Ports>", length(min = 1))]
    pub ports: Option<Vec<Ports>>,
    /// Protocols; all if absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<ProtocolName>", length(min = 1))]
    pub protocols: Option<Vec<ProtocolName>>,
    /// Users by name, id or range of ids; all if absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Id>", length(min = 1))]
    pub users: Option<Vec<Id>>,
    /// Groups by name, id or range of ids: primary or supplementary
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Id>", length(min = 1))]
    pub groups: Option<Vec<Id>>,
    /// Cgroups by absolute path, and all below; * is a part of one name, ** any depth
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<CgroupText>", length(min = 1))]
    pub cgroups: Option<Vec<CgroupText>>,
    /// systemd system units
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<UnitText>", length(min = 1))]
    pub units: Option<Vec<UnitText>>,
    /// Addresses and networks; 0.0.0.0 and :: mean the wildcard itself. deny takes a wildcard bind where any
    /// address of its family is named, allow and kernel where all are
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<AddressText>", length(min = 1))]
    pub addresses: Option<Vec<AddressText>>,
    /// audit: this rule only reports
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AuditName")]
    pub mode: Option<AuditName>,
    /// Decisions of this rule that are reported; overrides the policy's log
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Log")]
    pub log: Option<Log>,
    /// The error that a denied program sees; EACCES if absent. Only with action deny
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ErrnoName")]
    pub errno: Option<ErrnoName>,
    /// Comments.
    #[serde(skip)]
    pub notes: Notes,
}

/// A bind and its expected verdict
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Test")]
pub struct TestEntry {
    /// The caller: a name or an id
    pub user: Id,
    /// A group of the caller
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Id")]
    pub group: Option<Id>,
    /// Groups of the caller; without any, those of the user in the system's database
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Id>", length(min = 1))]
    pub groups: Option<Vec<Id>>,
    /// The caller's cgroup; the root if absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CgroupText")]
    pub cgroup: Option<CgroupText>,
    /// The caller's systemd unit, in place of its cgroup
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UnitText")]
    pub unit: Option<UnitText>,
    /// The port
    pub port: Ports,
    /// The protocol; tcp if absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProtocolName")]
    pub protocol: Option<ProtocolName>,
    /// The address; 0.0.0.0 if absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub address: Option<String>,
    /// The verdict
    pub expect: VerdictName,
    /// The rule that is expected to decide
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub rule: Option<String>,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $($(#[$word_doc:meta])* $word:ident),+;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$word_doc])* $word),+ }
    )+};
}

words! {
    /// The mode that a rule can have
    AuditName:
        /// Reported, not enforced
        Audit;
    /// A verdict
    VerdictName:
        /// May bind, with or without CAP_NET_BIND_SERVICE
        Allow,
        /// May not bind, root included
        Deny,
        /// The kernel's own check decides
        Kernel;
    /// The verdict if no rule matches
    DefaultName:
        /// The kernel's own check decides
        Kernel,
        /// May not bind, root included
        Deny;
    /// A protocol
    ProtocolName:
        /// TCP, MPTCP, SMC
        Tcp,
        /// UDP, UDP-Lite
        Udp,
        /// SCTP
        Sctp,
        /// DCCP
        Dccp;
}

/// The error of a denied bind
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum ErrnoName {
    /// Permission denied: that of the kernel's own check
    #[serde(rename = "EACCES")]
    Acces,
    /// Operation not permitted
    #[serde(rename = "EPERM")]
    Perm,
    /// Address already in use: a program that looks for a free port tries the next one
    #[serde(rename = "EADDRINUSE")]
    AddrInUse,
}

/// A port or a range of ports
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Ports {
    /// A port
    One(#[schemars(range(min = 1, max = 65_535))] u16),
    /// Written as a string: "8000-8010"
    Text(#[schemars(regex(pattern = r"^ *[0-9]+ *(- *[0-9]+ *)?$"))] String),
}

/// A name, an id or a range of ids
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Id {
    /// An id
    One(#[schemars(range(min = 0, max = 4_294_967_294_u32))] u32),
    /// A name or a range: "1000-1999"
    Text(#[schemars(regex(pattern = r"^[^!~^*?,:/\[\]\n][^*?,:/\[\]\n]*$"))] String),
}

/// An absolute path in the cgroup v2 tree
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct CgroupText(
    #[schemars(regex(
        pattern = r"^/(([^/\n.]|\.[^/\n.]|\.\.[^/\n])[^/\n]*(/([^/\n.]|\.[^/\n.]|\.\.[^/\n])[^/\n]*)*/?)?$"
    ))]
    pub String,
);

/// The name of a unit, with its type
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct UnitText(
    #[schemars(regex(
        pattern = r"^[^/\n]*(\.service|\.scope|\.slice|\.socket|\.mount|\.swap|\*)$"
    ))]
    pub String,
);

/// An address or a network
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AddressText(#[schemars(regex(pattern = r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"))] pub String);

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self::One(port)
    }
}

impl From<u32> for Id {
    fn from(id: u32) -> Self {
        Self::One(id)
    }
}

impl From<String> for Ports {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Ranges as entries of a list.
#[must_use]
pub fn entries<T, E>(ranges: &[RangeInclusive<T>]) -> Vec<E>
where
    T: Copy + PartialEq + Display,
    E: From<T> + From<String>,
{
    let entry = |range: &RangeInclusive<T>| match (*range.start(), *range.end()) {
        (first, last) if first == last => E::from(first),
        (first, last) => E::from(format!("{first}-{last}")),
    };
    ranges.iter().map(entry).collect()
}
