//! A decision event, as its readers get it: names resolved, text escaped.

use portguard_common::{Errno, Family, Hook, Protocol, Reason, Verdict};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Whether a verdict is carried out, and if not, by whose setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The verdict is carried out.
    Enforce,
    /// The deciding rule is in audit mode: the kernel's own check decides.
    AuditRule,
    /// The policy is in audit mode: the kernel's own check decides.
    AuditPolicy,
}

/// One decision of portguard, or several equal ones. Fields may be added; names and meanings do not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionEvent {
    /// RFC 3339, nanoseconds, UTC.
    pub time: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Whether it was enforced.
    pub enforced: bool,
    /// The same, with the reason.
    pub mode: Mode,
    /// Whether the capability check was skipped.
    pub granted: bool,
    /// The deciding rule; null for the default, and where there is a `reason`.
    pub rule: Option<String>,
    /// First 12 hex digits of the policy's SHA-256.
    pub policy: String,
    /// First 12 hex digits of the SHA-256 of the policy's files, their names and contents: equal on all hosts that have the
    /// same files.
    #[serde(default)]
    pub revision: String,
    /// Port.
    pub port: u16,
    /// Protocol of the socket.
    pub protocol: Protocol,
    /// Family of the socket.
    pub family: Family,
    /// The address bound; a v4-mapped one as IPv4.
    pub address: IpAddr,
    /// Whether the socket is `IPV6_V6ONLY`, so that `::` takes no IPv4; null for `inet`.
    pub v6only: Option<bool>,
    /// Real uid.
    pub uid: u32,
    /// Name of the real uid; null where it has none.
    pub user: Option<String>,
    /// Effective uid.
    pub euid: u32,
    /// Real gid.
    pub gid: u32,
    /// Effective gid.
    pub egid: u32,
    /// Uid of who made the outermost user namespace around the caller, and so is behind its uid; null in the initial
    /// namespace.
    #[serde(default)]
    pub userns_owner: Option<u32>,
    /// Process; null where several made the binds.
    pub pid: Option<u32>,
    /// Its parent; null where several processes made the binds.
    pub ppid: Option<u32>,
    /// When the process began, in clock ticks since the boot, as in `/proc/PID/stat`; null where several made the binds.
    pub start_time: Option<u64>,
    /// Thread name, escaped; null where threads of several names made the binds.
    pub comm: Option<String>,
    /// Path of the program at the bind, escaped; null where it could not be read, and where several made the binds.
    pub exe: Option<String>,
    /// Whether names are missing in `exe`, at its beginning or its end.
    #[serde(default)]
    pub exe_cut: bool,
    /// Whether the program's file had been removed; then `exe` ends in ` (deleted)`.
    #[serde(default)]
    pub exe_deleted: bool,
    /// Device of the program's filesystem, as in `/proc/PID/mountinfo`; null where several programs made the binds.
    pub exe_dev: Option<String>,
    /// Inode number of the program in its filesystem; null where several programs made the binds.
    pub exe_inode: Option<u64>,
    /// Path of the cgroup, escaped; null where it is gone.
    pub cgroup: Option<String>,
    /// Whether levels at the end of `cgroup` are missing.
    pub cgroup_cut: bool,
    /// Id of the cgroup.
    pub cgroup_id: u64,
    /// The systemd system unit of the cgroup, as `units` of a rule means it; null where there is none.
    pub unit: Option<String>,
    /// The container's id, from the path of the cgroup.
    pub container_id: Option<String>,
    /// The uid of the Kubernetes pod, from the path of the cgroup.
    pub pod_uid: Option<String>,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The hook that decided.
    pub hook: Hook,
    /// The errno of a denied bind; null where portguard did not deny it.
    pub errno: Option<Errno>,
    /// Number of equal decisions that this event stands for.
    pub count: u64,
    /// Whether they had different processes, programs or thread names, whose fields are null then.
    pub several: bool,
    /// Null, or why the default decided although a rule might have matched: `no_memory` to read the caller's
    /// groups, or `unresolved_cgroup`, whose path is too deep or had no memory either. `deny` rules that might
    /// have matched would have decided.
    #[serde(default)]
    pub reason: Reason,
    /// The machine's name when the daemon started.
    pub host: String,
    /// The boot that pids, cgroup ids and start times belong to, as in `/proc/sys/kernel/random/boot_id`; null where it
    /// cannot be read.
    pub boot_id: Option<String>,
}

impl DecisionEvent {
    /// The JSON Schema of an event, draft 2020-12.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        settings
            .into_generator()
            .into_root_schema_for::<Self>()
            .to_value()
    }

    /// The event as a line of JSON, its newline included.
    #[must_use]
    pub fn json_line(&self) -> String {
        // Strings and numbers always serialise.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}
