//! The oracle's types as portguard's, for the tests that compare the two.

use crate::oracle::{Action, Model, OracleBind, Proto};
use portguard_common::{Decision, Errno, Protocol, Verdict};
use portguard_policy::compile::{Bind, Gids, Owner, Tables, compile};
use portguard_policy::policy::{Loaded, StaticNames};

/// Parses a policy without errors.
#[must_use]
pub fn parsed(text: &str) -> Loaded {
    portguard_policy::policy::parse("policy.yaml".as_ref(), text, &StaticNames::default())
        .unwrap_or_else(|problems| panic!("{}\n{text}", problems.render(false)))
}

#[must_use]
pub const fn verdict(action: Action) -> Verdict {
    match action {
        Action::Allow => Verdict::Allow,
        Action::Deny => Verdict::Deny,
        Action::Kernel => Verdict::Kernel,
    }
}

#[must_use]
pub const fn protocol(proto: Proto) -> Protocol {
    match proto {
        Proto::Tcp => Protocol::Tcp,
        Proto::Udp => Protocol::Udp,
        Proto::Sctp => Protocol::Sctp,
        Proto::Dccp => Protocol::Dccp,
    }
}

/// Calls `then` with the bind as portguard's type.
pub fn with_bind<T>(bind: &OracleBind, then: impl FnOnce(&Bind<'_>) -> T) -> T {
    let cgroup: Vec<&str> = bind.cgroup.iter().map(String::as_str).collect();
    let owner = |&(uid, gid): &(u32, u32)| Owner {
        uid,
        gid: Some(gid),
    };
    let owners: Vec<Owner> = bind.owners.iter().map(owner).collect();
    let gids = Gids::new(bind.gid, bind.egid, bind.groups.iter().copied());
    then(&Bind {
        port: bind.port,
        protocol: protocol(bind.protocol),
        uid: bind.uid,
        euid: bind.euid,
        gids: &gids.all,
        setgid: gids.setgid,
        owners: &owners,
        cgroup: &cgroup,
        address: bind.address,
        dual_stack: !bind.v6only,
    })
}

/// The decision of compiled tables.
#[must_use]
pub fn decided(tables: &Tables, bind: &OracleBind) -> Option<Decision> {
    with_bind(bind, |bind| tables.decide(bind))
}

/// The errno of this name.
#[must_use]
pub fn errno(name: &str) -> Errno {
    let mut all = Errno::ALL.into_iter();
    all.find(|errno| errno.as_str() == name)
        .unwrap_or_else(|| panic!("there is no errno {name}"))
}

/// Verdict, rule, whether it is reported, whether the rule is in audit mode, and the errno of a denial.
pub type Outcome<'a> = (Verdict, Option<&'a str>, bool, bool, Errno);

/// The outcome of a decision by compiled tables.
#[must_use]
pub fn outcome(tables: &Tables, d: Decision) -> Outcome<'_> {
    let rule = tables.rule_name(d.rule);
    (d.verdict, rule, d.report, d.audit, d.errno)
}

#[must_use]
pub fn tables_outcome<'a>(tables: &'a Tables, bind: &OracleBind) -> Option<Outcome<'a>> {
    decided(tables, bind).map(|decision| outcome(tables, decision))
}

#[must_use]
pub fn oracle_outcome<'a>(model: &'a Model, bind: &OracleBind) -> Option<Outcome<'a>> {
    model.decide(bind).map(|decision| {
        let rule = decision.rule;
        let audit = model.only_reports(rule);
        let errno = errno(decision.errno);
        (
            verdict(decision.verdict),
            rule,
            decision.report,
            audit,
            errno,
        )
    })
}

/// Model -> YAML -> policy -> tables.
#[must_use]
pub fn tables_of(model: &Model) -> Tables {
    let text = model.to_yaml();
    let loaded = parsed(&text);
    compile(&loaded.policy).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
