//! A socket with whoever has it, and what the policy says of them.

use super::diag::{Socket, State};
use super::netns::Netns;
use super::processes::{Process, unit_of};
use crate::account_names::AccountNames;
use crate::events::cgroup_paths::CgroupPaths;
use portguard_common::{Decision, Family, Protocol, Verdict};
use portguard_policy::compile::{Bind, Tables};
use portguard_policy::escape::{escape, unescape};
use portguard_policy::policy::{Mode, Policy};
use serde::{Serialize, Serializer};
use std::net::IpAddr;
use std::sync::Arc;

/// Who has a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Processes.
    Process,
    /// The kernel itself (NFS, lockd): no process has it open, and root's is its uid. Never a violation.
    Kernel,
    /// A user, though no process has it open now: it is on its way in a message, or in an `io_uring`.
    Nobody,
}

/// Whom the policy was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Real uid.
    pub uid: u32,
    /// Its name, escaped, where it has one.
    pub user: Option<String>,
    /// Effective uid.
    pub euid: u32,
    /// Path of the cgroup, escaped.
    pub cgroup: String,
}

/// A socket that holds a protected port. The fields are a contract: names and meanings only ever get company.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// Port.
    pub port: u16,
    /// Protocol.
    #[serde(serialize_with = "protocol_name")]
    pub protocol: Protocol,
    /// Family of the socket.
    #[serde(serialize_with = "family_name")]
    pub family: Family,
    /// The address bound; a v4-mapped one as IPv4.
    pub address: IpAddr,
    /// Whether an inet6 socket takes IPv4 too; null where that is not known, and for inet.
    pub dual_stack: Option<bool>,
    /// `listen`, `bound` or `connected`.
    pub state: State,
    /// The socket's uid: who made it.
    pub uid: u32,
    /// Its name, escaped, where it has one.
    pub user: Option<String>,
    /// Path of the cgroup that it was made in, escaped; null where that is gone, or not told (before Linux 5.9).
    pub made_in: Option<String>,
    /// Inode number of the socket.
    pub inode: u64,
    /// Its cookie: no other socket of its network namespace ever has it.
    pub cookie: u64,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Whether that is the host's.
    pub host_netns: bool,
    /// Who has it.
    pub by: By,
    /// The processes that have it open.
    pub processes: Vec<Process>,
    /// The unit of whoever has it, else that it was made in.
    pub unit: Option<String>,
    /// What the policy says of this bind, were it made now: `allow`, `deny` or `kernel`.
    #[serde(serialize_with = "verdict_name")]
    pub verdict: Verdict,
    /// The deciding rule; null for the default, and for what the kernel holds.
    pub rule: Option<String>,
    /// For whom it says so; null for what the kernel holds.
    pub judged: Option<Identity>,
    /// Whether the verdict would be carried out: neither the policy nor the rule is in audit mode.
    pub enforced: bool,
    /// It is denied, and not by a rule in audit mode.
    pub violation: bool,
    #[serde(skip)]
    pub(super) socket: Socket,
    #[serde(skip)]
    pub(super) kept: Arc<Netns>,
}

impl Holder {
    /// By what an inventory is sorted.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let Self {
            netns,
            port,
            protocol,
            address,
            cookie,
            ..
        } = *self;
        (
            !self.host_netns,
            netns,
            port,
            protocol.as_str(),
            address,
            cookie,
        )
    }
}

fn protocol_name<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(protocol.as_str())
}

fn family_name<S: Serializer>(family: &Family, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match family {
        Family::Inet => "inet",
        Family::Inet6 => "inet6",
    })
}

fn verdict_name<S: Serializer>(verdict: &Verdict, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(verdict.as_str())
}

/// A policy that is asked about sockets.
pub(super) struct Evaluator<'a> {
    policy: &'a Policy,
    tables: &'a Tables,
    host_netns: u32,
    cgroups: CgroupPaths,
    users: AccountNames,
}

/// Somebody who could have made the bind.
struct Caller<'a> {
    uid: u32,
    euid: u32,
    gids: &'a [u32],
    cgroup: String,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        tables: &'a Tables,
        host_netns: u32,
        cgroups: CgroupPaths,
    ) -> Self {
        Self {
            policy,
            tables,
            host_netns,
            cgroups,
            users: AccountNames::default(),
        }
    }

    /// The socket with its verdict; `None` where its port is not protected.
    pub(super) fn holder(
        &mut self,
        kept: Arc<Netns>,
        socket: Socket,
        processes: Vec<Process>,
    ) -> Option<Holder> {
        let made_in = socket.made_in.and_then(|id| self.cgroups.path(id));
        let by = match (processes.is_empty(), socket.uid) {
            (false, _) => By::Process,
            (true, 0) => By::Kernel,
            (true, _) => By::Nobody,
        };
        let asked = match by {
            By::Kernel => None,
            By::Process | By::Nobody => Some(self.ask(&socket, &processes, made_in.as_deref())?),
        };
        let (judged, decision) = asked.unzip();
        let verdict = decision.map_or(Verdict::Kernel, |decision| decision.verdict);
        let audit = decision.is_some_and(|decision| decision.audit);
        let rule = decision.and_then(|decision| self.policy.rule(decision.rule));
        let inet6 = socket.is_inet6();
        let mut units = processes.iter().filter_map(|process| process.unit.clone());
        let unit = units.next().or_else(|| unit_of(made_in.as_deref()?));
        Some(Holder {
            port: socket.id.source_port,
            protocol: socket.protocol(),
            family: if inet6 { Family::Inet6 } else { Family::Inet },
            address: socket.id.source_address.to_canonical(),
            dual_stack: socket.v6only.filter(|_| inet6).map(|only| !only),
            state: socket.state,
            uid: socket.uid,
            user: self.users.escaped(socket.uid),
            made_in,
            inode: socket.inode,
            cookie: socket.cookie(),
            netns: kept.inode,
            host_netns: kept.inode == self.host_netns,
            by,
            processes,
            unit,
            verdict,
            rule: rule.map(|rule| rule.name.clone()),
            judged,
            enforced: self.policy.mode == Mode::Enforce && !audit,
            violation: verdict == Verdict::Deny && !audit,
            socket,
            kept,
        })
    }

    /// What the policy says of the bind, and for whom.
    ///
    /// A socket is passed on, to workers and by systemd, and who bound it is judged. That is most likely the
    /// process that has the socket's uid and its cgroup. Where it would be denied and the socket comes from a
    /// cgroup that none of its processes is in, as with systemd's socket units, whoever made it is asked about.
    fn ask(
        &mut self,
        socket: &Socket,
        processes: &[Process],
        made_in: Option<&str>,
    ) -> Option<(Identity, Decision)> {
        let likely = processes.iter().min_by_key(|process| {
            let other_user = process.euid != socket.uid;
            let other_cgroup = process.cgroup.as_deref() != made_in;
            (other_user, other_cgroup, process.pid)
        });
        let maker = || Caller {
            uid: socket.uid,
            euid: socket.uid,
            gids: &[],
            cgroup: made_in.and_then(unescape).unwrap_or_default(),
        };
        let Some(likely) = likely else {
            return self.decide(socket, &maker());
        };
        let said = self.decide(
            socket,
            &Caller {
                uid: likely.uid,
                euid: likely.euid,
                gids: &likely.gids,
                cgroup: likely.cgroup_path.clone(),
            },
        )?;
        let mut cgroups = processes.iter().map(|process| process.cgroup.as_deref());
        if said.1.verdict == Verdict::Deny && made_in.is_some() && cgroups.all(|at| at != made_in) {
            let of_maker = self.decide(socket, &maker())?;
            if of_maker.1.verdict != Verdict::Deny {
                return Some(of_maker);
            }
        }
        Some(said)
    }

    fn decide(&mut self, socket: &Socket, caller: &Caller<'_>) -> Option<(Identity, Decision)> {
        let names = caller.cgroup.split('/').filter(|name| !name.is_empty());
        let cgroup: Vec<&str> = names.collect();
        let decision = self.tables.decide(&Bind {
            port: socket.id.source_port,
            protocol: socket.protocol(),
            uid: caller.uid,
            euid: caller.euid,
            gids: caller.gids,
            cgroup: &cgroup,
            address: socket.id.source_address,
            dual_stack: socket.is_inet6() && socket.v6only != Some(true),
        })?;
        let identity = Identity {
            uid: caller.uid,
            user: self.users.escaped(caller.uid),
            euid: caller.euid,
            cgroup: escape(format!("/{}", cgroup.join("/")).as_bytes()),
        };
        Some((identity, decision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::diag::tests::listener;
    use portguard_policy::compile::compile;
    use portguard_policy::policy::{SystemNames, parse};
    use std::path::Path;

    const NGINX: &str = "/system.slice/nginx.service";

    fn process(pid: u32, uid: u32, cgroup: &str) -> Process {
        Process {
            pid,
            comm: "x".into(),
            exe: None,
            uid,
            euid: uid,
            gids: vec![uid],
            cgroup: Some(cgroup.into()),
            unit: unit_of(cgroup),
            cgroup_path: cgroup.into(),
        }
    }

    /// The uid asked about and its cgroup, the verdict and the number of the rule.
    fn ask(
        rules: &str,
        socket: &Socket,
        processes: &[Process],
        made_in: Option<&str>,
    ) -> (u32, String, &'static str, u16) {
        let text = format!("version: 1\ndefault: deny\nrules: [{rules}]\n");
        let policy = parse(Path::new("p.yaml"), &text, &SystemNames)
            .unwrap()
            .policy;
        let tables = compile(&policy, 1).unwrap();
        let mut evaluator = Evaluator::new(&policy, &tables, 1, CgroupPaths::new(Path::new("")));
        let (identity, decision) = evaluator.ask(socket, processes, made_in).unwrap();
        let verdict = decision.verdict.as_str();
        (identity.uid, identity.cgroup, verdict, decision.rule)
    }

    #[test]
    fn of_several_processes_the_likely_binder_is_asked_about() {
        let any = "0.0.0.0".parse().unwrap();
        let allow = "{ name: a, action: allow, users: [0], units: [nginx.service] }";
        let owned = [
            process(7, 33, NGINX),
            process(8, 0, "/"),
            process(9, 0, NGINX),
        ];
        let said = ask(allow, &listener(any, 80, 0), &owned, Some(NGINX));
        assert_eq!(said, (0, NGINX.into(), "allow", 0));
        // Who bound it became somebody else.
        let said = ask(allow, &listener(any, 80, 0), &owned[..1], Some(NGINX));
        assert_eq!((said.0, said.2), (33, "deny"));
    }

    #[test]
    fn who_made_it_is_asked_about_where_nobody_is_there_any_more() {
        let any = "0.0.0.0".parse().unwrap();
        let allow = "{ name: a, action: allow, units: [web.socket] }";
        let made_in = "/system.slice/web.socket";
        let service = [process(7, 33, "/system.slice/web.service")];
        let said = ask(allow, &listener(any, 80, 0), &service, Some(made_in));
        assert_eq!(said, (0, made_in.into(), "allow", 0));
        // No process at all: the socket's user, in the cgroup that it was made in.
        let said = ask(allow, &listener(any, 80, 33), &[], Some(made_in));
        assert_eq!(said, (33, made_in.into(), "allow", 0));
        let said = ask(allow, &listener(any, 80, 33), &[], None);
        assert_eq!((said.1.as_str(), said.2), ("/", "deny"));
    }

    #[test]
    fn addresses_are_judged_as_those_of_binds() {
        let owned = [process(7, 33, "/")];
        let ask = |addresses: &str, socket: &Socket| {
            let rule = format!("{{ name: a, action: allow, addresses: [{addresses}] }}");
            ask(&rule, socket, &owned, Some("/")).2
        };
        let mapped = listener("::ffff:127.0.0.1".parse().unwrap(), 80, 33);
        assert_eq!(ask("127.0.0.1", &mapped), "allow");
        let mut wildcard = listener("::".parse().unwrap(), 80, 33);
        assert_eq!(ask("'::'", &wildcard), "deny", "it takes IPv4 too");
        assert_eq!(ask("'::', 0.0.0.0", &wildcard), "allow");
        wildcard.v6only = Some(true);
        assert_eq!(ask("'::'", &wildcard), "allow");
    }
}
