//! What every scenario asks: was the bind answered as the verdict says, and reported as it was?

use crate::harness::instance::Instance;
use crate::harness::probe::{Answer, Probe};
use crate::harness::{NotApplicable, TestEnv};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// A verdict as the test expects it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) word: &'static str,
    pub(super) rule: Option<&'static str>,
    pub(super) audit: bool,
    /// `reason` of the event.
    pub(super) reason: Option<&'static str>,
}

pub(super) const fn allow(rule: &'static str) -> Verdict {
    Verdict {
        word: "allow",
        rule: Some(rule),
        audit: false,
        reason: None,
    }
}

pub(super) const fn deny(rule: &'static str) -> Verdict {
    Verdict {
        word: "deny",
        rule: Some(rule),
        audit: false,
        reason: None,
    }
}

/// By the kernel's rule because a rule says so.
pub(super) const fn kernel(rule: &'static str) -> Verdict {
    Verdict {
        word: "kernel",
        rule: Some(rule),
        audit: false,
        reason: None,
    }
}

/// By the policy's default.
pub(super) const fn default(word: &'static str) -> Verdict {
    Verdict {
        word,
        rule: None,
        audit: false,
        reason: None,
    }
}

impl Verdict {
    pub(super) const fn in_audit(self) -> Self {
        Self {
            audit: true,
            ..self
        }
    }

    /// By the default, for this reason.
    pub(super) const fn because(self, reason: &'static str) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    /// What the bind ends with.
    fn errno(
        self,
        env: &TestEnv,
        instance: &Instance,
        probe: &Probe,
        port: u16,
        grantable: bool,
    ) -> i32 {
        match self.word {
            "deny" if !self.audit => env.denial(instance.hook),
            "allow" if !self.audit && grantable && env.grants() => 0,
            _ => by_kernel(probe, port),
        }
    }
}

/// The kernel's own rule: a process has the capability while its effective uid is 0.
pub(super) fn by_kernel(probe: &Probe, port: u16) -> i32 {
    let [_, effective, _] = probe.uids;
    if (1..1024).contains(&port) && effective != 0 {
        libc::EACCES
    } else {
        0
    }
}

/// The one answer of a probe with one attempt; what the kernel does not have is said, not passed over.
pub(super) fn answer(probe: &Probe) -> anyhow::Result<i32> {
    match probe.run()?[..] {
        [Answer::Bound(errno)] => Ok(errno),
        [Answer::NoSocket(errno)] => {
            Err(NotApplicable(format!("socket() ends with errno {errno}")).into())
        }
        [Answer::Unsupported(errno)] => {
            Err(NotApplicable(format!("this way to bind ends with errno {errno}")).into())
        }
        ref other => bail!("one answer expected: {other:?}"),
    }
}

/// The bind ends as the verdict says, and its one event says so too.
pub(super) fn judged(
    env: &TestEnv,
    instance: &Instance,
    probe: &Probe,
    verdict: Verdict,
) -> anyhow::Result<Value> {
    let attempt = probe.attempts.first().context("a bind")?;
    let port = port_of(&attempt.address)?;
    let grantable = attempt.protocol != 132;
    let want = verdict.errno(env, instance, probe, port, grantable);
    let seen = answer(probe)?;
    let events = instance.events_of(&probe.comm)?;
    let what = || format!("{verdict:?}, {probe:?}, events {events:?}");
    ensure!(seen == want, "errno {seen} instead of {want}: {}", what());
    let [event] = &events[..] else {
        bail!("{} events instead of one: {}", events.len(), what());
    };
    let refused = verdict.word == "deny" && !verdict.audit;
    let errno = refused.then_some(if want == libc::EPERM {
        "EPERM"
    } else {
        "EACCES"
    });
    let [uid, euid, _] = probe.uids;
    for (field, value) in [
        ("verdict", json!(verdict.word)),
        ("rule", json!(verdict.rule)),
        ("enforced", json!(!verdict.audit)),
        (
            "granted",
            json!(verdict.word == "allow" && !verdict.audit && grantable && env.grants()),
        ),
        ("port", json!(port)),
        ("uid", json!(uid)),
        ("euid", json!(euid)),
        ("gid", json!(probe.gid)),
        ("hook", json!(instance.hook)),
        ("errno", json!(errno)),
        ("count", json!(1)),
        ("reason", json!(verdict.reason)),
    ] {
        ensure!(event[field] == value, "{field} is not {value}: {}", what());
    }
    Ok(event.clone())
}

/// The bind ends with this errno and nothing is reported of it.
pub(super) fn unjudged(instance: &Instance, probe: &Probe, want: i32) -> anyhow::Result<()> {
    let seen = answer(probe)?;
    let events = instance.events_of(&probe.comm)?;
    ensure!(seen == want, "errno {seen} instead of {want}: {probe:?}");
    ensure!(
        events.is_empty(),
        "an event for a bind that is not judged: {events:?}, {probe:?}"
    );
    Ok(())
}

fn port_of(address: &[u8]) -> anyhow::Result<u16> {
    let bytes = address.get(2..4).context("an address with a port")?;
    Ok(u16::from_be_bytes(bytes.try_into()?))
}
