//! What the policy decides for an existing socket, and for which caller.

use super::diag::Socket;
use super::holder::{By, Doubt, Holder, Identity};
use super::netns::Netns;
use super::places::Place;
use super::processes::{Process, unit_of};
use crate::account_names::AccountNames;
use crate::events::cgroup_paths::CgroupPaths;
use portguard_common::{Decision, Family, Verdict};
use portguard_policy::compile::{Bind, Gids, Owner, Tables};
use portguard_policy::escape::{escape, unescape};
use portguard_policy::policy::{Mode, Policy};
use std::sync::Arc;

/// Evaluates a policy for sockets.
pub(super) struct Evaluator<'a> {
    policy: &'a Policy,
    tables: &'a Tables,
    host_netns: u32,
    cgroups: CgroupPaths,
    users: AccountNames,
}

/// A process that could have made the bind.
struct Caller<'a> {
    uid: u32,
    euid: u32,
    gids: &'a Gids,
    owners: &'a [Owner],
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
        mut processes: Vec<Process>,
        may_be_in: Vec<Place>,
    ) -> Option<Holder> {
        for process in &mut processes {
            process.user = self.users.escaped(process.euid);
        }
        let made_in = socket.made_in.and_then(|id| self.cgroups.path(id));
        let made_in = made_in.map(|path| path.text);
        let by = By::of(&processes, &may_be_in, socket.uid);
        let result = match by {
            By::Kernel => None,
            By::Process | By::InFlight | By::Nobody => {
                Some(self.evaluate(&socket, &processes, made_in.as_deref())?)
            }
        };
        let (evaluated, decision) = result.unzip();
        let verdict = decision.map_or(Verdict::Kernel, |decision| decision.verdict);
        let audit = decision.is_some_and(|decision| decision.audit);
        let rule = decision.and_then(|decision| self.policy.rule(decision.rule));
        let denied = verdict == Verdict::Deny;
        let doubt = denied.then(|| self.doubt(by, &socket, &processes, made_in.as_deref()));
        let doubt = doubt.flatten();
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
            may_be_in,
            unit,
            verdict,
            rule: rule.map(|rule| rule.name.clone()),
            evaluated,
            enforced: self.policy.mode == Mode::Enforce && !audit,
            violation: denied && !audit && doubt.is_none(),
            doubt,
            socket,
            kept,
        })
    }

    /// Why a denial of a socket may be wrong: a rule that does not deny could have matched what is not known of its bind.
    fn doubt(
        &self,
        by: By,
        socket: &Socket,
        processes: &[Process],
        made_in: Option<&str>,
    ) -> Option<Doubt> {
        if by == By::InFlight && socket.uid == 0 {
            return Some(Doubt::Kernel);
        }
        let port = socket.id.source_port;
        let rules = self.policy.rules.iter();
        let mut spared =
            rules
                .filter(|rule| rule.action != Verdict::Deny)
                .filter(|rule| match &rule.ports {
                    Some(ports) => ports.iter().any(|range| range.contains(&port)),
                    None => true,
                });
        let unknown_cgroup = by != By::Process && made_in.is_none();
        let unknown_groups = processes.iter().all(|process| process.euid != socket.uid);
        spared.find_map(|rule| {
            if unknown_cgroup && (rule.cgroups.is_some() || rule.units.is_some()) {
                Some(Doubt::Cgroup)
            } else {
                (unknown_groups && rule.groups.is_some()).then_some(Doubt::Groups)
            }
        })
    }

    /// What the policy decides for the bind, and for which caller.
    ///
    /// The policy decides about the process that bound it, and sockets are passed on, to workers and by systemd. The
    /// socket's uid is who made it, also where the process that holds it has changed its user since. Its cgroup is most
    /// likely that of the process, or the one that it was made in, as with systemd's socket units. A denial holds only
    /// where each of the callers that may have bound it is denied: nothing is closed on doubt.
    fn evaluate(
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
        let creator = |gids, owners, cgroup| Caller {
            uid: socket.uid,
            euid: socket.uid,
            gids,
            owners,
            cgroup,
        };
        let unknown = Gids::default();
        let made_in_path = || made_in.and_then(unescape).unwrap_or_default();
        let Some(likely) = likely else {
            return self.decide(socket, &creator(&unknown, &[], made_in_path()));
        };
        let now = Caller {
            uid: likely.uid,
            euid: likely.euid,
            gids: &likely.gids,
            owners: &likely.userns_owners,
            cgroup: likely.cgroup_path.clone(),
        };
        let mut callers = Vec::new();
        if likely.euid != socket.uid {
            callers.push(creator(
                &likely.gids,
                &likely.userns_owners,
                likely.cgroup_path.clone(),
            ));
        }
        callers.push(now);
        let mut cgroups = processes.iter().map(|process| process.cgroup.as_deref());
        if made_in.is_some() && cgroups.all(|at| at != made_in) {
            callers.push(creator(&unknown, &[], made_in_path()));
        }
        let mut first = None;
        for caller in &callers {
            let decided = self.decide(socket, caller)?;
            if decided.1.verdict != Verdict::Deny {
                return Some(decided);
            }
            first.get_or_insert(decided);
        }
        first
    }

    fn decide(&mut self, socket: &Socket, caller: &Caller<'_>) -> Option<(Identity, Decision)> {
        let names = caller.cgroup.split('/').filter(|name| !name.is_empty());
        let cgroup: Vec<&str> = names.collect();
        let decision = self.tables.decide(&Bind {
            port: socket.id.source_port,
            protocol: socket.protocol(),
            uid: caller.uid,
            euid: caller.euid,
            gids: &caller.gids.all,
            setgid: caller.gids.setgid,
            owners: caller.owners,
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
            user: None,
            gids: Gids::new(uid, uid, []),
            cgroup: Some(cgroup.into()),
            unit: unit_of(cgroup),
            cgroup_path: cgroup.into(),
            userns_owners: Vec::new(),
        }
    }

    /// The uid and cgroup that were evaluated, the verdict and the number of the rule.
    fn evaluate(
        rules: &str,
        socket: &Socket,
        processes: &[Process],
        made_in: Option<&str>,
    ) -> (u32, String, &'static str, u16) {
        let text = format!("version: 1\ndefault: deny\nrules: [{rules}]\n");
        let policy = parse(Path::new("p.yaml"), &text, &SystemNames::LOCAL)
            .unwrap()
            .policy;
        let tables = compile(&policy).unwrap();
        let mut evaluator = Evaluator::new(&policy, &tables, 1, CgroupPaths::new(Path::new("")));
        let (identity, decision) = evaluator.evaluate(socket, processes, made_in).unwrap();
        let verdict = decision.verdict.as_str();
        (identity.uid, identity.cgroup, verdict, decision.rule)
    }

    #[test]
    fn holder_evaluates_the_likely_binder_of_several_processes() {
        let any = "0.0.0.0".parse().unwrap();
        let allow = "{ name: a, action: allow, users: [0], units: [nginx.service] }";
        let owned = [
            process(7, 33, NGINX),
            process(8, 0, "/"),
            process(9, 0, NGINX),
        ];
        let found = evaluate(allow, &listener(any, 80, 0), &owned, Some(NGINX));
        assert_eq!(found, (0, NGINX.into(), "allow", 0));
        // The process that bound it has changed its uid since.
        let found = evaluate(allow, &listener(any, 80, 0), &owned[..1], Some(NGINX));
        assert_eq!(found, (0, NGINX.into(), "allow", 0));
    }

    #[test]
    fn holder_is_denied_only_if_each_caller_that_may_have_bound_it_is() {
        let any = "0.0.0.0".parse().unwrap();
        let dropped = [process(7, 108, NGINX)];
        let bound_as_root = listener(any, 80, 0);
        let found = |rules: &str| evaluate(rules, &bound_as_root, &dropped, Some(NGINX));
        let now = "{ name: a, action: allow, users: [108] }";
        assert_eq!(found(now), (108, NGINX.into(), "allow", 0));
        let other = "{ name: a, action: allow, users: [1] }";
        let denied = found(other);
        assert_eq!((denied.0, denied.2), (0, "deny"));
    }

    #[test]
    fn holder_evaluates_the_creator_where_no_process_is_left_in_its_cgroup() {
        let any = "0.0.0.0".parse().unwrap();
        let allow = "{ name: a, action: allow, units: [web.socket] }";
        let made_in = "/system.slice/web.socket";
        let service = [process(7, 33, "/system.slice/web.service")];
        let found = evaluate(allow, &listener(any, 80, 0), &service, Some(made_in));
        assert_eq!(found, (0, made_in.into(), "allow", 0));
        // No process at all: the socket's user, in the cgroup that it was made in.
        let found = evaluate(allow, &listener(any, 80, 33), &[], Some(made_in));
        assert_eq!(found, (33, made_in.into(), "allow", 0));
        let found = evaluate(allow, &listener(any, 80, 33), &[], None);
        assert_eq!((found.1.as_str(), found.2), ("/", "deny"));
    }

    #[test]
    fn holder_is_in_doubt_where_an_unknown_group_or_cgroup_could_be_allowed() {
        let doubt = |rule: &str, processes: &[Process], made_in: Option<&str>| {
            let text = format!("version: 1\ndefault: deny\nrules: [{rule}]\n");
            let parsed = parse(Path::new("p.yaml"), &text, &SystemNames::LOCAL).unwrap();
            let tables = compile(&parsed.policy).unwrap();
            let paths = CgroupPaths::new(Path::new(""));
            let evaluator = Evaluator::new(&parsed.policy, &tables, 1, paths);
            let by = match processes {
                [] => By::Nobody,
                [..] => By::Process,
            };
            let socket = listener("0.0.0.0".parse().unwrap(), 80, 33);
            evaluator.doubt(by, &socket, processes, made_in)
        };
        let unit = "{ name: a, action: allow, units: [nginx.service] }";
        assert_eq!(doubt(unit, &[], None), Some(Doubt::Cgroup));
        assert_eq!(doubt(unit, &[], Some("/")), None);
        assert_eq!(doubt(unit, &[process(7, 34, "/")], None), None);
        let group = "{ name: a, action: allow, groups: [0], ports: [80] }";
        assert_eq!(doubt(group, &[], Some("/")), Some(Doubt::Groups));
        let (now, dropped) = (process(7, 33, "/"), process(7, 34, "/"));
        assert_eq!(doubt(group, &[dropped], Some("/")), Some(Doubt::Groups));
        assert_eq!(doubt(group, &[now], Some("/")), None);
        let other = "{ name: a, action: allow, groups: [0], ports: [81] }";
        assert_eq!(doubt(other, &[], Some("/")), None);
        let deny = "{ name: a, action: deny, groups: [0] }";
        assert_eq!(doubt(deny, &[], Some("/")), None);
    }

    #[test]
    fn holder_evaluates_addresses_as_binds_do() {
        let owned = [process(7, 33, "/")];
        let verdict = |addresses: &str, socket: &Socket| {
            let rule = format!("{{ name: a, action: allow, addresses: [{addresses}] }}");
            evaluate(&rule, socket, &owned, Some("/")).2
        };
        let mapped = listener("::ffff:127.0.0.1".parse().unwrap(), 80, 33);
        assert_eq!(verdict("127.0.0.1", &mapped), "allow");
        let mut wildcard = listener("::".parse().unwrap(), 80, 33);
        assert_eq!(verdict("'::'", &wildcard), "deny", "it also accepts IPv4");
        assert_eq!(verdict("'::', 0.0.0.0", &wildcard), "allow");
        wildcard.v6only = Some(true);
        assert_eq!(verdict("'::'", &wildcard), "allow");
    }
}
