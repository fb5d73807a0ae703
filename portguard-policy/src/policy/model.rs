//! A valid policy, as types that hold no invalid value.
//!
//! Ranges are not inverted, names are resolved to ids. An absent field is `None` and matches everything; only a list of
//! users or groups can be empty, and matches nobody.

use ipnet::IpNet;
use portguard_common::{Errno, Protocol, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Whether verdicts are enforced
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Denials and grants take effect
    #[default]
    Enforce,
    /// Nothing takes effect; events report what would have happened
    Audit,
}

/// Which network namespaces are in scope
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The initial one only
    #[default]
    Host,
    /// Every one
    All,
}

/// Which decisions make events
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// Every decision
    #[default]
    All,
    /// Denials only
    Deny,
    /// None
    None,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Audit];

    /// The mode as policies write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 2] = [Self::Host, Self::All];

    /// The scope as policies write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::All => "all",
        }
    }
}

impl Log {
    /// Every value of `log:`.
    pub const ALL: [Self; 3] = [Self::All, Self::Deny, Self::None];

    /// The value as policies write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Deny => "deny",
            Self::None => "none",
        }
    }
}

/// A policy: all files merged.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `mode:`
    pub mode: Mode,
    /// `default:`, `Kernel` or `Deny`.
    pub default: Verdict,
    /// `protect:`, ports from 1.
    pub protect: Vec<RangeInclusive<u16>>,
    /// `scope:`
    pub scope: Scope,
    /// `log:`
    pub log: Log,
    /// `rules:` in file order, files in the order given.
    pub rules: Vec<Rule>,
    /// `tests:` of all files.
    pub tests: Vec<PolicyTest>,
    /// Where the settings were given.
    pub setting_locations: SettingLocations,
    /// Names of users and groups.
    pub given: GivenNames,
    /// Names in rules that the host does not have: their entries match nobody.
    pub unknown: Vec<UnknownName>,
}

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl AccountKind {
    /// `user` or `group`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }

    /// The key of a rule: `users` or `groups`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::User => "users",
            Self::Group => "groups",
        }
    }
}

/// The name of a user or group that the host does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// Whether it is of a user or a group.
    pub kind: AccountKind,
    /// The name.
    pub name: String,
    /// The rule that has it.
    pub rule: String,
    /// Where it is.
    pub location: Location,
}

/// Where each setting of a policy was given last; `None` where no file gives it. The lists of `protect:` are united,
/// so each of them counts.
#[derive(Clone, Debug, Default)]
pub struct SettingLocations {
    /// Of `mode:`.
    pub mode: Option<Location>,
    /// Of `default:`.
    pub default: Option<Location>,
    /// Of each `protect:`, with the ports that it gives.
    pub protect: Vec<(Location, Vec<RangeInclusive<u16>>)>,
    /// Of `scope:`.
    pub scope: Option<Location>,
    /// Of `log:`.
    pub log: Option<Location>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            default: Verdict::Kernel,
            protect: vec![1..=1023],
            scope: Scope::default(),
            log: Log::default(),
            rules: Vec::new(),
            tests: Vec::new(),
            setting_locations: SettingLocations::default(),
            given: GivenNames::default(),
            unknown: Vec::new(),
        }
    }
}

/// A location in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One rule. An absent field matches everything; within a field any entry may match.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `name:`, unique over all files.
    pub name: String,
    /// `action:`
    pub action: Verdict,
    /// `ports:`, each from 1.
    pub ports: Option<Vec<RangeInclusive<u16>>>,
    /// `protocols:`
    pub protocols: Option<Vec<Protocol>>,
    /// `users:` as ids. Empty where all its names are unknown: then it matches nobody.
    pub users: Option<Vec<RangeInclusive<u32>>>,
    /// `groups:` as ids: the caller's real, effective or any supplementary gid. Empty like `users`.
    pub groups: Option<Vec<RangeInclusive<u32>>>,
    /// `cgroups:`
    pub cgroups: Option<Vec<CgroupPattern>>,
    /// `units:`
    pub units: Option<Vec<UnitPattern>>,
    /// `addresses:`; IPv4-mapped ones as IPv4. A network of one address that is the wildcard means the
    /// wildcard itself.
    pub addresses: Option<Vec<IpNet>>,
    /// `mode: audit`: decisions of this rule are reported and not enforced.
    pub audit: bool,
    /// `log:`, which overrides the policy's.
    pub log: Option<Log>,
    /// `errno:` of a `deny` rule; `EACCES` where absent, and of other rules.
    pub errno: Errno,
    /// Where the rule begins.
    pub location: Location,
}

impl Policy {
    /// The rule with this number; `None` for the number of the default.
    #[must_use]
    pub fn rule(&self, number: u16) -> Option<&Rule> {
        self.rules.get(usize::from(number))
    }
}

impl Rule {
    /// Whether it matches no bind, since all its users or all its groups are unknown.
    #[must_use]
    pub fn matches_nobody(&self) -> bool {
        let empty = |ids: &Option<Vec<_>>| ids.as_ref().is_some_and(Vec::is_empty);
        empty(&self.users) || empty(&self.groups)
    }

    /// Whether its `protocols:` match.
    pub(crate) fn is_for(&self, protocol: Protocol) -> bool {
        let protocols = self.protocols.as_ref();
        protocols.is_none_or(|protocols| protocols.contains(&protocol))
    }

    /// `users:` as ranges in order, none touching another: first and last.
    pub(crate) fn sorted_users(&self) -> Option<Vec<(u32, u32)>> {
        let users = super::merged(self.users.as_deref()?).into_iter();
        Some(users.map(RangeInclusive::into_inner).collect())
    }
}

/// The names that a policy uses for users and groups, by their ids.
#[derive(Clone, Debug, Default)]
pub struct GivenNames {
    /// Of users.
    pub users: BTreeMap<u32, String>,
    /// Of groups.
    pub groups: BTreeMap<u32, String>,
    /// Whether the ids are symbols for the names.
    pub symbolic: bool,
}

/// A pattern of absolute paths in the cgroup v2 tree, as its components below the root: at most
/// [`portguard_common::MAX_CGROUP_DEPTH`] of them. It matches a cgroup and
/// all below it. No components mean the root: every cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CgroupPattern(pub Vec<Component>);

/// A component of a [`CgroupPattern`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// `**`: any number of levels, including none.
    AnyDepth,
    /// One level: a name in which each `*` stands for any bytes, including none. At most
    /// [`portguard_common::MAX_CGROUP_NAME`] bytes, not empty, `.` or `..`.
    Name(String),
}

/// The name of a systemd system unit, in which each `*` stands for any bytes, including none. It matches
/// the cgroup of that name below any number of slices (names that end in `.slice`), including none, and all below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnitPattern(pub String);

/// One entry of `tests:`.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// Real and effective uid of the caller.
    pub user: u32,
    /// `user:` as written.
    pub user_text: String,
    /// `groups:` as ids; where absent, the groups of the user in the system's database, if `user:` is a name.
    pub groups: Vec<u32>,
    /// `address:`; where absent, `0.0.0.0`. `::` includes IPv4, as for a socket without `IPV6_V6ONLY`.
    pub address: IpAddr,
    /// The caller's cgroup; the root where absent. Any path, also one deeper than rules may name.
    pub cgroup: Vec<String>,
    /// Port, from 1.
    pub port: u16,
    /// `protocol:`, tcp where absent.
    pub protocol: Protocol,
    /// The verdict expected.
    pub expect: Verdict,
    /// `rule:`, the name of the rule that must decide, where given.
    pub rule: Option<String>,
    /// Where the entry begins.
    pub location: Location,
}
