//! A decision as an event: names resolved, text escaped.

use crate::account_names::AccountNames;
use crate::events::cgroup_paths::CgroupPaths;
use crate::kernel::Features;
use crate::status::Description;
use jiff::Timestamp;
use portguard_common::{Errno, Event, EventFlags, Family, Hook, Protocol, Reason, Verdict};
use portguard_policy::escape::escape;
use rustix::time::{ClockId, clock_gettime};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// One decision of portguard. Fields may be added; names and meanings do not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionEvent {
    /// RFC 3339, nanoseconds, UTC.
    pub time: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Whether it was enforced.
    pub enforced: bool,
    /// Whether the capability check was skipped.
    pub granted: bool,
    /// The deciding rule; null for the default, and where there is a `reason`.
    pub rule: Option<String>,
    /// First 12 hex digits of the policy's SHA-256.
    pub policy: String,
    /// Port.
    pub port: u16,
    /// Protocol of the socket.
    pub protocol: Protocol,
    /// Family of the socket.
    pub family: Family,
    /// The address bound; a v4-mapped one as IPv4.
    pub address: IpAddr,
    /// Real uid.
    pub uid: u32,
    /// Name of the real uid; null where it has none.
    pub user: Option<String>,
    /// Effective uid.
    pub euid: u32,
    /// Real gid.
    pub gid: u32,
    /// Process.
    pub pid: u32,
    /// Thread name, escaped.
    pub comm: String,
    /// Path of the program, escaped; null where the process is gone.
    pub exe: Option<String>,
    /// Path of the cgroup, escaped; null where it is gone.
    pub cgroup: Option<String>,
    /// Id of the cgroup.
    pub cgroup_id: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The hook that decided.
    pub hook: Hook,
    /// The errno of a denied bind; null where portguard did not deny it.
    pub errno: Option<Errno>,
    /// Number of equal decisions that this event stands for.
    pub count: u64,
    /// Null, or why the default decided although a rule might have matched: `no_memory` to read the caller's
    /// groups, or `unresolved_cgroup`, whose path is too deep or had no memory either. `deny` rules that might
    /// have matched would have decided.
    #[serde(default)]
    pub reason: Reason,
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

/// Turns the kernel's records into [`DecisionEvent`].
pub struct Enricher {
    /// By generation; the last is in force.
    policies: VecDeque<Known>,
    features: Features,
    /// Names of users.
    pub users: AccountNames,
    /// Paths of cgroups.
    pub cgroups: CgroupPaths,
}

/// The names of a policy's events.
struct Known {
    generation: u32,
    digest: String,
    rules: Vec<String>,
}

impl Known {
    fn new(description: &Description) -> Self {
        let rules = description.rules.iter();
        Self {
            generation: u32::from(description.policy.generation),
            digest: description.policy.hash.clone(),
            // The default comes last and has no name.
            rules: rules.filter_map(|rule| rule.name.clone()).collect(),
        }
    }
}

/// Policies whose events may still be in the ring, which is drained between reloads.
const POLICIES: usize = 16;

impl Enricher {
    /// Knows no policy yet.
    #[must_use]
    pub fn new(features: Features, cgroups: CgroupPaths) -> Self {
        Self {
            policies: VecDeque::new(),
            features,
            users: AccountNames::default(),
            cgroups,
        }
    }

    /// Registers the policy that is about to be in force. Events of earlier policies keep their names.
    pub fn register_policy(&mut self, description: &Description) {
        let known = Known::new(description);
        self.policies
            .retain(|old| old.generation != known.generation);
        self.policies.push_back(known);
        if self.policies.len() > POLICIES {
            self.policies.pop_front();
        }
    }

    /// Resolves what the record only numbers; `None` for a protocol that this version does not know.
    pub fn enrich(&mut self, event: &Event) -> Option<DecisionEvent> {
        let protocol = Protocol::from_index(event.protocol)?;
        let verdict = Verdict::from_bits(event.verdict);
        let has = |flag: u8| event.flags & flag != 0;
        let cgroup_hook = has(EventFlags::CGROUP_HOOK);
        let refused = has(EventFlags::ENFORCED) && verdict == Verdict::Deny;
        let family = if event.family == Family::Inet as u8 {
            Family::Inet
        } else {
            Family::Inet6
        };
        let mut policies = self.policies.iter();
        let policy = policies.find(|known| known.generation == event.generation);
        Some(DecisionEvent {
            time: wall_clock(event.time),
            verdict,
            enforced: has(EventFlags::ENFORCED),
            granted: has(EventFlags::GRANTED),
            rule: policy.and_then(|known| known.rules.get(usize::from(event.rule)).cloned()),
            policy: policy.map(|known| known.digest.clone()).unwrap_or_default(),
            port: event.port,
            protocol,
            family,
            address: address(&event.address, family),
            uid: event.uid,
            user: self.users.escaped(event.uid),
            euid: event.euid,
            gid: event.gid,
            pid: event.pid,
            comm: escape(event.comm.split(|b| *b == 0).next().unwrap_or_default()),
            exe: exe(event.pid),
            cgroup: self.cgroups.path(event.cgroup_id),
            cgroup_id: event.cgroup_id,
            netns: event.netns,
            hook: if cgroup_hook { Hook::Cgroup } else { Hook::Lsm },
            errno: match (refused, cgroup_hook && !self.features.set_errno) {
                (false, _) => None,
                (true, false) => Some(Errno::Acces),
                // The errno of a cgroup program that cannot choose it (before Linux 5.18).
                (true, true) => Some(Errno::Perm),
            },
            count: 1,
            reason: EventFlags::reason(event.flags),
        })
    }
}

fn address(bytes: &[u8; 16], family: Family) -> IpAddr {
    if family == Family::Inet {
        let [a, b, c, d, ..] = *bytes;
        return Ipv4Addr::new(a, b, c, d).into();
    }
    Ipv6Addr::from(*bytes).to_canonical()
}

fn exe(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(escape(path.as_os_str().as_encoded_bytes()))
}

/// `CLOCK_MONOTONIC` nanoseconds as wall clock time.
fn wall_clock(monotonic: u64) -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    let age = Duration::from_nanos(now.saturating_sub(monotonic));
    let time = Timestamp::now().checked_sub(age).unwrap_or_default();
    format!("{time:.9}")
}
