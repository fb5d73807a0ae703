//! From the kernel's records to decision events: names resolved, text escaped.

use super::container::{container_id, pod_uid};
use super::event::{DecisionEvent, Mode};
use crate::account_names::AccountNames;
use crate::events::cgroup_paths::CgroupPaths;
use crate::events::executables::Executables;
use crate::events::path_cache::BoundedPath;
use crate::kernel::{Aggregated, Features};
use crate::status::Description;
use jiff::Timestamp;
use portguard_common::{
    Errno, Event, EventFlags, Family, Hook, NO_OWNER, Protocol, RuleWord, Verdict,
};
use portguard_policy::escape::escape;
use portguard_policy::units;
use rustix::param::clock_ticks_per_second;
use rustix::system::uname;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Turns the kernel's records into [`DecisionEvent`].
pub struct Enricher {
    /// By generation; the last is in force.
    policies: VecDeque<Known>,
    features: Features,
    /// Names of users.
    pub users: AccountNames,
    /// Paths of cgroups.
    pub cgroups: CgroupPaths,
    /// Paths of programs.
    pub executables: Executables,
    host: String,
    boot_id: Option<String>,
    /// Nanoseconds of a clock tick.
    tick: u64,
}

/// The names of a policy's events.
struct Known {
    generation: u32,
    digest: String,
    revision: String,
    rules: Vec<String>,
}

impl Known {
    fn new(description: &Description) -> Self {
        let rules = description.rules.iter();
        Self {
            generation: u32::from(description.policy.generation),
            digest: description.policy.hash.clone(),
            revision: description.policy.revision.clone(),
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
            executables: Executables::default(),
            host: escape(uname().nodename().to_bytes()),
            boot_id: boot_id(),
            tick: 1_000_000_000 / clock_ticks_per_second().max(1),
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
    pub fn enrich(&mut self, aggregated: &Aggregated) -> Option<DecisionEvent> {
        let (event, several) = (&aggregated.event, aggregated.several);
        let [one_process, one_comm] = [several.process, several.comm].map(|flag| flag == 0);
        let one_exe = one_process && several.executable == 0 && event.executable != 0;
        let protocol = Protocol::from_index(event.protocol)?;
        let word = RuleWord(event.verdict);
        let verdict = word.verdict();
        let has = |flag: u8| event.flags & flag != 0;
        let cgroup_hook = has(EventFlags::CGROUP_HOOK);
        let refused = has(EventFlags::ENFORCED) && verdict == Verdict::Deny;
        let family = family(event);
        let cgroup = self.cgroups.path(event.cgroup_id);
        let path = whole_path(cgroup.as_ref());
        let exe = self.executables.path(event.executable).filter(|_| one_exe);
        let exe_deleted = one_exe && event.exe_flags & Event::EXE_DELETED != 0;
        let policy = self.policy(event.generation);
        let of_policy = |text: fn(&Known) -> &String| policy.map(text).cloned().unwrap_or_default();
        Some(DecisionEvent {
            time: wall_clock(event.time),
            verdict,
            enforced: has(EventFlags::ENFORCED),
            mode: mode(event.flags),
            granted: has(EventFlags::GRANTED),
            rule: policy.and_then(|known| known.rules.get(usize::from(event.rule)).cloned()),
            policy: of_policy(|known| &known.digest),
            revision: of_policy(|known| &known.revision),
            port: event.port,
            protocol,
            family,
            address: address(&event.address, family),
            v6only: (family == Family::Inet6).then(|| has(EventFlags::V6ONLY)),
            uid: event.uid,
            user: self.users.escaped(event.uid),
            euid: event.euid,
            gid: event.gid,
            egid: event.egid,
            userns_owner: Some(event.userns_owner).filter(|owner| *owner != NO_OWNER),
            pid: one_process.then_some(event.pid),
            ppid: one_process.then_some(event.ppid),
            start_time: one_process.then_some(event.start_time / self.tick),
            comm: one_comm.then(|| comm(&event.comm)),
            exe: exe.map(|path| exe_text(&path.text, exe_deleted)),
            exe_cut: exe.is_some_and(|path| path.cut),
            exe_deleted,
            exe_dev: one_exe.then(|| device(event.exe_dev)),
            exe_inode: one_exe.then_some(event.exe_inode),
            unit: units::unit(path).map(str::to_owned),
            container_id: container_id(path).map(str::to_owned),
            pod_uid: pod_uid(path),
            cgroup_cut: cgroup.as_ref().is_some_and(|path| path.cut),
            cgroup: cgroup.map(|path| path.text),
            cgroup_id: event.cgroup_id,
            netns: event.netns,
            hook: if cgroup_hook { Hook::Cgroup } else { Hook::Lsm },
            errno: refused.then(|| self.errno(cgroup_hook, word.errno())),
            count: aggregated.count,
            several: !one_process || !one_comm || several.executable != 0,
            reason: EventFlags::reason(event.flags),
            host: self.host.clone(),
            boot_id: self.boot_id.clone(),
        })
    }

    /// The policy of a generation, while it is remembered.
    fn policy(&self, generation: u32) -> Option<&Known> {
        let mut policies = self.policies.iter();
        policies.find(|known| known.generation == generation)
    }

    /// Whether the kernel is to send the path of an event's program again: it is not known, or not any more.
    #[must_use]
    pub fn lacks_path(&self, event: &Event) -> bool {
        event.executable != 0 && self.executables.path(event.executable).is_none()
    }

    /// The errno of a refused bind; `asked` is that of the policy.
    const fn errno(&self, cgroup_hook: bool, asked: Errno) -> Errno {
        if cgroup_hook && !self.features.set_errno {
            // That of a cgroup program that cannot choose it (before Linux 5.18).
            Errno::Perm
        } else {
            asked
        }
    }
}

const fn family(event: &Event) -> Family {
    if event.family == Family::Inet as u8 {
        Family::Inet
    } else {
        Family::Inet6
    }
}

fn mode(flags: u8) -> Mode {
    if flags & EventFlags::ENFORCED != 0 {
        Mode::Enforce
    } else if flags & EventFlags::AUDIT_RULE != 0 {
        Mode::AuditRule
    } else {
        Mode::AuditPolicy
    }
}

fn address(bytes: &[u8; 16], family: Family) -> IpAddr {
    if family == Family::Inet {
        let [a, b, c, d, ..] = *bytes;
        return Ipv4Addr::new(a, b, c, d).into();
    }
    Ipv6Addr::from(*bytes).to_canonical()
}

fn comm(bytes: &[u8; 16]) -> String {
    escape(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim_end().to_owned())
}

fn exe_text(path: &str, deleted: bool) -> String {
    // As in /proc/PID/exe.
    let mark = if deleted { " (deleted)" } else { "" };
    format!("{path}{mark}")
}

/// The path of a cgroup; empty where it is cut or not known.
fn whole_path(path: Option<&BoundedPath>) -> &str {
    path.filter(|path| !path.cut).map_or("", |path| &path.text)
}

/// `MAJOR:MINOR`, from the bits of `MKDEV` of `include/linux/kdev_t.h` (Linux 5.10 to 7.2).
fn device(dev: u32) -> String {
    format!("{}:{}", dev >> 20, dev & 0xf_ffff)
}

/// `CLOCK_MONOTONIC` nanoseconds as wall clock time.
fn wall_clock(monotonic: u64) -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    let age = Duration::from_nanos(now.saturating_sub(monotonic));
    let time = Timestamp::now().checked_sub(age).unwrap_or_default();
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use portguard_common::{Event, Several};
    use std::path::Path;
    use zerocopy::FromZeros as _;

    fn enrich(change: impl FnOnce(&mut Aggregated)) -> DecisionEvent {
        let event = Event {
            cgroup_id: 7,
            pid: 4242,
            ppid: 4200,
            family: Family::Inet as u8,
            comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
            flags: EventFlags::ENFORCED,
            executable: 1,
            exe_inode: 12,
            exe_dev: 254 << 20 | 1,
            ..Event::new_zeroed()
        };
        let mut aggregated = Aggregated::from(event);
        change(&mut aggregated);
        let features = Features {
            grants: true,
            set_errno: true,
        };
        let mut enricher = Enricher::new(features, CgroupPaths::new(Path::new("/nonexistent")));
        let path = [b"system.slice".to_vec(), b"nginx.service".to_vec()];
        enricher.cgroups.learn(7, &path, 0);
        enricher.cgroups.learn(8, &path, 1);
        let program = [b"usr".to_vec(), b"sbin".to_vec(), b"nginx".to_vec()];
        enricher.executables.learn(1, &program, false, 0);
        enricher.enrich(&aggregated).unwrap()
    }

    #[test]
    fn aggregated_event_asserts_no_process_of_several() {
        let one = enrich(|_| {});
        assert_eq!(
            (one.pid, one.ppid, one.several),
            (Some(4242), Some(4200), false)
        );
        assert_eq!(one.comm.as_deref(), Some("nginx"));
        let processes = enrich(|of| {
            of.count = 3;
            of.several = Several {
                process: 1,
                ..Several::default()
            };
        });
        assert!(processes.several && processes.count == 3);
        let nulls = (
            processes.pid,
            processes.ppid,
            processes.start_time,
            processes.exe,
        );
        assert_eq!(nulls, (None, None, None, None));
        assert_eq!(processes.comm.as_deref(), Some("nginx"));
        let threads = enrich(|of| of.several.comm = 1);
        assert_eq!(
            (threads.pid, threads.comm, threads.several),
            (Some(4242), None, true)
        );
    }

    #[test]
    fn errno_is_that_of_the_rule_where_the_kernel_takes_it() {
        let refused = |flags, set_errno| {
            let features = Features {
                grants: true,
                set_errno,
            };
            let event = Event {
                family: Family::Inet as u8,
                verdict: RuleWord::new(Verdict::Deny, false, false)
                    .with_errno(Errno::AddrInUse)
                    .0,
                flags,
                ..Event::new_zeroed()
            };
            let mut enricher = Enricher::new(features, CgroupPaths::new(Path::new("/nonexistent")));
            let event = enricher.enrich(&Aggregated::from(event)).unwrap();
            assert_eq!(event.verdict, Verdict::Deny);
            event.errno
        };
        let (lsm, cgroup) = (
            EventFlags::ENFORCED,
            EventFlags::ENFORCED | EventFlags::CGROUP_HOOK,
        );
        assert_eq!(refused(lsm, false), Some(Errno::AddrInUse));
        assert_eq!(refused(cgroup, true), Some(Errno::AddrInUse));
        assert_eq!(refused(cgroup, false), Some(Errno::Perm));
        assert_eq!(refused(0, true), None);
    }

    #[test]
    fn mode_says_whose_audit_mode_it_is() {
        let mode = |flags| enrich(|of| of.event.flags = flags).mode;
        assert_eq!(mode(EventFlags::ENFORCED), Mode::Enforce);
        assert_eq!(mode(EventFlags::AUDIT_RULE), Mode::AuditRule);
        assert_eq!(mode(0), Mode::AuditPolicy);
    }

    #[test]
    fn v6only_is_said_of_inet6() {
        assert_eq!(enrich(|_| {}).v6only, None);
        let inet6 = |flags| {
            enrich(|of| {
                of.event.family = Family::Inet6 as u8;
                of.event.flags = flags;
            })
        };
        assert_eq!(inet6(0).v6only, Some(false));
        assert_eq!(inet6(EventFlags::V6ONLY).v6only, Some(true));
    }

    #[test]
    fn program_is_said_of_one_process_and_one_exec() {
        let one = enrich(|_| {});
        assert_eq!(one.exe.as_deref(), Some("/usr/sbin/nginx"));
        assert_eq!((one.exe_cut, one.exe_deleted), (false, false));
        assert_eq!(one.exe_dev.as_deref(), Some("254:1"));
        assert_eq!(one.exe_inode, Some(12));
        let deleted = enrich(|of| of.event.exe_flags = Event::EXE_DELETED);
        assert_eq!(deleted.exe.as_deref(), Some("/usr/sbin/nginx (deleted)"));
        assert!(deleted.exe_deleted);
        let unknown = enrich(|of| of.event.executable = 2);
        assert_eq!((unknown.exe, unknown.exe_inode), (None, Some(12)));
        let none = enrich(|of| of.event.executable = 0);
        assert_eq!((none.exe, none.exe_dev, none.exe_inode), (None, None, None));
        let several = enrich(|of| {
            of.event.exe_flags = Event::EXE_DELETED;
            of.several.executable = 1;
        });
        assert!(several.several && !several.exe_deleted);
        assert_eq!(several.pid, Some(4242));
        let nulls = (several.exe, several.exe_dev, several.exe_inode);
        assert_eq!(nulls, (None, None, None));
    }

    #[test]
    fn cut_path_has_no_unit() {
        assert_eq!(enrich(|_| {}).unit.as_deref(), Some("nginx.service"));
        let cut = enrich(|of| of.event.cgroup_id = 8);
        assert_eq!(
            cut.cgroup.as_deref(),
            Some("/system.slice/nginx.service/...")
        );
        assert_eq!((cut.cgroup_cut, cut.unit), (true, None));
    }
}
