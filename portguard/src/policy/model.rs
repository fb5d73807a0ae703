//! A valid policy: what the YAML says once every word of it has been checked.
//!
//! Nothing here can be wrong any more: ranges are not inverted, names are resolved to ids, lists are
//! not empty (an absent field is `None` and matches everything).

use portguard_common::{Protocol, Verdict};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Whether verdicts are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Denials and grants are real.
    #[default]
    Enforce,
    /// Nothing is changed; events say what would have happened.
    Audit,
}

/// Which network namespaces are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The initial one only.
    #[default]
    Host,
    /// Every one.
    All,
}

/// Which decisions make events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// Every decision.
    #[default]
    All,
    /// Denials only.
    Deny,
    /// None.
    None,
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
    pub tests: Vec<Expectation>,
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
        }
    }
}

/// Where in the policy files something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
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
    /// `users:` as ids.
    pub users: Option<Vec<RangeInclusive<u32>>>,
    /// `cgroups:`
    pub cgroups: Option<Vec<CgroupPath>>,
    /// Where the rule begins.
    pub place: Place,
}

/// An absolute path in the cgroup v2 tree, as its components below the root: at most
/// [`portguard_common::MAX_CGROUP_DEPTH`] of them, each at most [`portguard_common::MAX_CGROUP_NAME`]
/// bytes, none empty, `.` or `..`. No components mean the root: every cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath(pub Vec<String>);

/// One entry of `tests:`.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Real and effective uid of the caller.
    pub user: u32,
    /// `user:` as written.
    pub user_text: String,
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
    pub place: Place,
}
