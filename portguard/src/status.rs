//! The status: what is enforced, by which policy, and the counters. `status`, the metrics and the daemon's socket
//! show the same snapshot.

use portguard_common::{Hook, Verdict};
use portguard_policy::compile::Tables;
use portguard_policy::policy::{Mode, Policy, Scope, ranges_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A snapshot. `portguard status --json` prints it: fields may be added, and do not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether binds are decided now.
    pub enforcing: Enforcing,
    /// The hook that decides; null where nothing is attached.
    pub hook: Option<Hook>,
    /// The daemon; null where the pins were read without one.
    pub daemon: Option<DaemonStatus>,
    /// The running kernel's release.
    pub kernel: String,
    /// The policy in force; null where none is.
    pub policy: Option<PolicyInForce>,
    /// Rules in file order; the last has no name and stands for the default.
    pub rules: Vec<RuleHits>,
    /// Decisions since the maps were made, exact.
    pub decisions: Decisions,
    /// Decisions whose event was dropped, by reason (`ring_full`, `uid_quota`, and the name of each sink).
    pub dropped: BTreeMap<String, u64>,
    /// Events that this daemon has reported; null where none runs. One may stand for several decisions.
    #[serde(default)]
    pub events: Option<u64>,
    /// What the programs cost; empty unless the kernel measures it (`kernel.bpf_stats_enabled`).
    #[serde(default)]
    pub programs: Vec<ProgramCost>,
    /// Reloads of this daemon; null where none runs.
    pub reloads: Option<Reloads>,
    /// Where links and maps are pinned; null where they are not.
    pub pins: Option<String>,
    /// What is wrong now; empty where all is well.
    pub problems: Vec<String>,
    /// How many times the daemon re-attached a hook.
    pub reattached: u64,
    /// What is enforced in place of policy files that were broken at the start: `kept`, the last policy that was in force,
    /// or `deny-protected`; null otherwise.
    #[serde(default)]
    pub fallback: Option<String>,
    /// Existing sockets that violate the policy, by the last scan; null where there was none.
    pub violations: Option<u64>,
    /// The privileges that the daemon has given up; null where none runs.
    #[serde(default)]
    pub hardening: Option<Hardening>,
}

/// The privileges that a daemon has given up, and what it has kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardening {
    /// Whether it is to give them up: not with `--no-sandbox`.
    pub sandbox: bool,
    /// The capabilities of its event loop.
    pub capabilities: Vec<String>,
    /// Whether no program that it executes could have more rights.
    pub no_new_privs: bool,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// Whether Landlock confines the threads that look up accounts, read policies and write decisions.
    pub landlock: bool,
    /// What could not be had.
    pub missing: Vec<String>,
}

/// Whether binds are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcing {
    /// By the policy, with real denials and grants.
    Enforce,
    /// By the policy, and only reported.
    Audit,
    /// Something is missing or was removed: see `problems`.
    Degraded,
    /// Nothing is attached.
    Inactive,
}

impl Enforcing {
    /// The state by the policy in force and the problems.
    #[must_use]
    pub fn of(policy: Option<&PolicyInForce>, problems: &[String]) -> Self {
        match policy {
            None => Self::Inactive,
            Some(_) if !problems.is_empty() => Self::Degraded,
            Some(policy) if policy.mode == Mode::Audit => Self::Audit,
            Some(_) => Self::Enforce,
        }
    }

    /// The word of the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Degraded => "degraded",
            Self::Inactive => "inactive",
        }
    }
}

/// The running daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it started, RFC 3339.
    pub since: String,
    /// Seconds since then.
    pub uptime: u64,
    /// What it uses; null where /proc cannot be read.
    #[serde(default)]
    pub usage: Option<ProcessUsage>,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Time on a CPU, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Virtual memory, in bytes.
    pub virtual_memory: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The limit of file descriptors; null where there is none.
    pub max_fds: Option<u64>,
}

/// What a program has cost since it was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// How many times it ran.
    pub runs: u64,
    /// How long in all, in nanoseconds.
    pub run_ns: u64,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInForce {
    /// The first 12 hex digits of its SHA-256, as in events.
    pub hash: String,
    /// The first 12 hex digits of the SHA-256 of its files, their names and contents, as in events.
    #[serde(default)]
    pub revision: String,
    /// The files and directories that it came from.
    pub origin: Vec<String>,
    /// Its generation in the maps.
    pub generation: u16,
    /// When it came into force, RFC 3339.
    pub since: String,
    /// Whether its verdicts are carried out.
    pub mode: Mode,
    /// The verdict where no rule matches.
    pub default: Verdict,
    /// Protected ports, as ranges.
    pub protect: String,
    /// The network namespaces that it covers.
    pub scope: Scope,
}

/// A rule and the number of its decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleHits {
    /// Its name; null for the default.
    pub name: Option<String>,
    /// What it decides.
    pub verdict: Verdict,
    /// `FILE:LINE`; null for the default.
    pub origin: Option<String>,
    /// Whether it only reports.
    pub audit: bool,
    /// Decisions by it since it came into force, over reloads that keep its name and verdict.
    pub hits: u64,
}

/// Decisions by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// `allow`.
    pub allow: u64,
    /// `deny`.
    pub deny: u64,
    /// `kernel`.
    pub kernel: u64,
}

impl Decisions {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> u64 {
        self.allow + self.deny + self.kernel
    }
}

/// Reloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloads {
    /// Those that put a policy in force.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// When the last one was tried, RFC 3339; null where none was.
    pub last: Option<String>,
    /// When a policy last was read and put in force, RFC 3339: at the start, or by a reload that changed nothing too.
    #[serde(default)]
    pub last_success: Option<String>,
    /// Why the last one failed, as it was printed; null where it succeeded.
    pub error: Option<String>,
}

/// The part of a policy that is kept beside its tables in the kernel, for `status` without its files and without a
/// daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The policy.
    pub policy: PolicyInForce,
    /// Its rules in file order, then the default; their hits are counted elsewhere.
    pub rules: Vec<RuleHits>,
}

impl Description {
    /// Describes a policy that comes into force now, without its generation.
    #[must_use]
    pub fn new(policy: &Policy, tables: &Tables, origin: &[PathBuf], revision: String) -> Self {
        let rules = policy.rules.iter().map(|rule| RuleHits {
            name: Some(rule.name.clone()),
            verdict: rule.action,
            origin: Some(format!(
                "{}:{}",
                rule.location.file.display(),
                rule.location.line
            )),
            audit: rule.audit,
            hits: 0,
        });
        let default = RuleHits {
            name: None,
            verdict: policy.default,
            origin: None,
            audit: false,
            hits: 0,
        };
        Self {
            policy: PolicyInForce {
                hash: tables.short_digest(),
                revision,
                origin: origin
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect(),
                generation: 0,
                since: now(),
                mode: policy.mode,
                default: policy.default,
                protect: ranges_text(&policy.protect),
                scope: policy.scope,
            },
            rules: rules.chain([default]).collect(),
        }
    }

    /// The same under the number by which the policy is installed.
    #[must_use]
    pub fn numbered(&self, generation: u16) -> Self {
        let mut numbered = self.clone();
        numbered.policy.generation = generation;
        numbered
    }
}

/// The time, RFC 3339 to the second, UTC.
#[must_use]
pub fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}
