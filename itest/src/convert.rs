//! Where the oracle's words and portguard's meet, for the tests that compare the two.

use crate::oracle::{Action, Answer, Model, OracleBind, Proto};
use portguard_common::{Decision, Protocol, Verdict};
use portguard_policy::compile::{Bind, Tables, compile};
use portguard_policy::policy::{Loaded, StaticNames};

/// Reads a policy that has no problem.
#[must_use]
pub fn parsed(text: &str) -> Loaded {
    portguard_policy::policy::parse("policy.yaml".as_ref(), text, &StaticNames::default())
        .unwrap_or_else(|problems| panic!("{}\n{text}", problems.render(false)))
}

/// A verdict in portguard's words.
#[must_use]
pub const fn verdict(action: Action) -> Verdict {
    match action {
        Action::Allow => Verdict::Allow,
        Action::Deny => Verdict::Deny,
        Action::Kernel => Verdict::Kernel,
    }
}

/// A protocol in portguard's words.
#[must_use]
pub const fn protocol(proto: Proto) -> Protocol {
    match proto {
        Proto::Tcp => Protocol::Tcp,
        Proto::Udp => Protocol::Udp,
        Proto::Sctp => Protocol::Sctp,
        Proto::Dccp => Protocol::Dccp,
    }
}

/// Does something with a bind in portguard's words.
pub fn with_bind<T>(bind: &OracleBind, then: impl FnOnce(&Bind<'_>) -> T) -> T {
    let cgroup: Vec<&str> = bind.cgroup.iter().map(String::as_str).collect();
    then(&Bind {
        port: bind.port,
        protocol: protocol(bind.protocol),
        uid: bind.uid,
        euid: bind.euid,
        gids: &bind.gids,
        cgroup: &cgroup,
        address: bind.address,
        dual_stack: !bind.v6only,
    })
}

/// What compiled tables decide.
#[must_use]
pub fn decided(tables: &Tables, bind: &OracleBind) -> Option<Decision> {
    with_bind(bind, |bind| tables.decide(bind))
}

/// Verdict, rule, whether it is reported, and whether the rule only reports.
pub type Said<'a> = (Verdict, Option<&'a str>, bool, bool);

/// What compiled tables say of a bind.
#[must_use]
pub fn tables_say<'a>(tables: &'a Tables, bind: &OracleBind) -> Option<Said<'a>> {
    decided(tables, bind).map(|d| (d.verdict, tables.rule_name(d.rule), d.report, d.audit))
}

/// What the oracle says of a bind.
#[must_use]
pub fn oracle_says<'a>(model: &'a Model, bind: &OracleBind) -> Option<Said<'a>> {
    model.decide(bind).map(
        |Answer {
             verdict: v,
             rule,
             report,
             ..
         }| (verdict(v), rule, report, model.only_reports(rule)),
    )
}

/// Model -> YAML -> policy -> tables.
#[must_use]
pub fn tables_of(model: &Model) -> Tables {
    let text = model.to_yaml();
    let loaded = parsed(&text);
    compile(&loaded.policy, 1).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
