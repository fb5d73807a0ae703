//! The checks of most scenarios: a bind ended as its verdict says, and its event says so too.

use crate::harness::env::by_kernel;
use crate::harness::instance::Instance;
use crate::harness::probe::{BindResult, Probe};
use crate::harness::{NotApplicable, TestEnv};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// An expected decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) word: &'static str,
    pub(super) rule: Option<&'static str>,
    pub(super) audit: bool,
    /// The `reason` of the event.
    pub(super) reason: Option<&'static str>,
    /// `errno:` of the rule.
    pub(super) errno: &'static str,
}

pub(super) const fn allow(rule: &'static str) -> Verdict {
    Verdict {
        word: "allow",
        rule: Some(rule),
        audit: false,
        reason: None,
        errno: "EACCES",
    }
}

pub(super) const fn deny(rule: &'static str) -> Verdict {
    Verdict {
        word: "deny",
        rule: Some(rule),
        audit: false,
        reason: None,
        errno: "EACCES",
    }
}

/// The verdict `kernel` of a rule.
pub(super) const fn kernel(rule: &'static str) -> Verdict {
    Verdict {
        word: "kernel",
        rule: Some(rule),
        audit: false,
        reason: None,
        errno: "EACCES",
    }
}

/// The policy's default.
pub(super) const fn default(word: &'static str) -> Verdict {
    Verdict {
        word,
        rule: None,
        audit: false,
        reason: None,
        errno: "EACCES",
    }
}

impl Verdict {
    pub(super) const fn in_audit(self) -> Self {
        Self {
            audit: true,
            ..self
        }
    }

    pub(super) const fn with(self, errno: &'static str) -> Self {
        Self { errno, ..self }
    }

    /// The default, for this reason.
    pub(super) const fn because(self, reason: &'static str) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }
}

/// The errno of a probe with one bind. It is not applicable where the kernel lacks the protocol or system call.
pub(super) fn errno_of(probe: &Probe) -> anyhow::Result<i32> {
    match probe.run()?[..] {
        [BindResult::Bound(errno)] => Ok(errno),
        [BindResult::NoSocket(errno)] => {
            Err(NotApplicable(format!("socket() ends with errno {errno}")).into())
        }
        [BindResult::Unsupported(errno)] => {
            Err(NotApplicable(format!("the kernel lacks this bind, errno {errno}")).into())
        }
        ref other => bail!("one result expected: {other:?}"),
    }
}

/// The bind ends as the verdict says, and has one event, which says so too.
pub(super) fn expect_decision(
    env: &TestEnv,
    instance: &Instance,
    probe: &Probe,
    verdict: Verdict,
) -> anyhow::Result<Value> {
    let attempt = probe.attempts.first().context("a bind")?;
    let port = port_of(&attempt.address)?;
    let [uid, euid, _] = probe.uids;
    let grantable = attempt.protocol != libc::IPPROTO_SCTP;
    let by_kernel = by_kernel(euid, port);
    let expected = if verdict.audit {
        by_kernel
    } else {
        match verdict.word {
            "deny" => env.denial_with(instance.hook, verdict.errno),
            word => env.enforced(instance.hook, word, grantable, by_kernel),
        }
    };
    let actual = errno_of(probe)?;
    let events = instance.events_of(&probe.comm)?;
    let what = || format!("{verdict:?}, {probe:?}, events {events:?}");
    ensure!(
        actual == expected,
        "errno {actual}, expected {expected}: {}",
        what()
    );
    let [event] = &events[..] else {
        bail!("{} events, expected one: {}", events.len(), what());
    };
    let refused = verdict.word == "deny" && !verdict.audit;
    let errno = refused.then_some(match expected {
        libc::EPERM => "EPERM",
        libc::EADDRINUSE => "EADDRINUSE",
        _ => "EACCES",
    });
    let granted = verdict.word == "allow" && !verdict.audit && grantable && env.grants();
    for (field, value) in [
        ("verdict", json!(verdict.word)),
        ("rule", json!(verdict.rule)),
        ("enforced", json!(!verdict.audit)),
        ("granted", json!(granted)),
        ("port", json!(port)),
        ("uid", json!(uid)),
        ("euid", json!(euid)),
        ("gid", json!(probe.gids[0])),
        ("egid", json!(probe.gids[1])),
        ("hook", json!(instance.hook)),
        ("errno", json!(errno)),
        ("count", json!(1)),
        ("reason", json!(verdict.reason)),
    ] {
        ensure!(event[field] == value, "{field} is not {value}: {}", what());
    }
    let carried_out = event["mode"] == "enforce";
    ensure!(carried_out != verdict.audit, "mode: {}", what());
    Ok(event.clone())
}

/// The bind ends with this errno and has no event.
pub(super) fn expect_no_decision(
    instance: &Instance,
    probe: &Probe,
    expected: i32,
) -> anyhow::Result<()> {
    let actual = errno_of(probe)?;
    let events = instance.events_of(&probe.comm)?;
    ensure!(
        actual == expected,
        "errno {actual}, expected {expected}: {probe:?}"
    );
    ensure!(
        events.is_empty(),
        "a bind that is not decided has events {events:?}: {probe:?}"
    );
    Ok(())
}

fn port_of(address: &[u8]) -> anyhow::Result<u16> {
    let bytes = address.get(2..4).context("an address with a port")?;
    Ok(u16::from_be_bytes(bytes.try_into()?))
}
