//! The shipped policies, each checked by its own `tests:`: every entry is made a real bind by that user in that
//! cgroup, whose errno and event must be those that the entry expects.

use crate::harness::cgroups::Cgroups;
use crate::harness::env::by_kernel;
use crate::harness::oracle_probe::is_expected;
use crate::harness::probe::Probe;
use crate::harness::{SharedInstance, TestEnv};
use crate::oracle::{ADDRESS, Action, EACCES, OracleBind, OracleDecision, Proto};
use crate::property::{check_event, observe};
use anyhow::{Context as _, ensure};
use portguard_common::{Protocol, Verdict};
use portguard_policy::policy::{Mode, Policy, PolicyTest, SystemNames};
use std::path::{Path, PathBuf};

/// The directory of the policies: in a guest, in a checkout.
const DIRECTORIES: [&str; 2] = ["/policies", "policies"];

pub(crate) fn run(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for path in policies(&directory()?)? {
        let binds = check(env, shared, &path).with_context(|| path.display().to_string())?;
        println!("shipped: {} holds, {binds} binds", path.display());
    }
    Ok(())
}

fn directory() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTGUARD_POLICIES") {
        return Ok(path.into());
    }
    DIRECTORIES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_dir())
        .context("no policies: set PORTGUARD_POLICIES")
}

/// The policy files of a directory, in order of their names.
pub fn policies(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "{} has no policies", directory.display());
    Ok(paths)
}

/// Reads a shipped policy, which must have neither errors nor warnings.
pub fn read(path: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(path)?;
    let loaded = portguard_policy::policy::parse(path, &text, &SystemNames::LOCAL)
        .map_err(|problems| anyhow::anyhow!("{}", problems.render(false)))?;
    let warnings = loaded.warnings.render(false);
    ensure!(warnings.is_empty(), "has warnings:\n{warnings}");
    Ok(loaded.policy)
}

/// Entries that hold for any policy prove nothing: there must be an allowed bind and a denied one.
pub fn expects_both(policy: &Policy) -> anyhow::Result<()> {
    let expects = |verdict| policy.tests.iter().any(|test| test.expect == verdict);
    ensure!(
        expects(Verdict::Allow),
        "no entry of `tests:` expects allow"
    );
    ensure!(expects(Verdict::Deny), "no entry of `tests:` expects deny");
    Ok(())
}

fn check(env: &TestEnv, shared: &mut SharedInstance, path: &Path) -> anyhow::Result<usize> {
    let policy = read(path)?;
    expects_both(&policy)?;
    let mut cgroups = Cgroups::default();
    for test in &policy.tests {
        cgroups.make(&test.cgroup)?;
    }
    // SCTP is not in every kernel, DCCP in few.
    let entries: Vec<(&PolicyTest, OracleBind)> = (policy.tests.iter())
        .map(|test| (test, bind_of(test)))
        .filter(|(_, bind)| !matches!(bind.protocol, Proto::Sctp | Proto::Dccp))
        .collect();
    let probes: Vec<Probe> = entries.iter().map(|(_, bind)| bind.into()).collect();
    let text = std::fs::read_to_string(path)?;
    let (errnos, events) = observe(env, shared, &text, &probes)?;
    for (((test, bind), probe), actual) in entries.iter().zip(&probes).zip(errnos) {
        let check = || {
            let decision = expected(test, policy.mode);
            let by_kernel = by_kernel(bind.euid, bind.port);
            let expected = if decision.enforced {
                env.enforced(env.auto_hook(), decision.verdict.name(), true, by_kernel)
            } else {
                by_kernel
            };
            ensure!(
                is_expected(actual, expected),
                "{bind:?} ended with errno {actual}, not {expected}"
            );
            let comm = String::from_utf8_lossy(&probe.comm);
            let Some(event) = events.iter().find(|event| event["comm"] == *comm) else {
                // The port may be unprotected, or the policy may not report the decision.
                ensure!(decision.verdict == Action::Kernel, "{bind:?} has no event");
                return Ok(());
            };
            let rule = decision.rule.or_else(|| event["rule"].as_str());
            let decision = OracleDecision { rule, ..decision };
            check_event(&events, probe, bind, Some(&decision))
        };
        check().with_context(|| format!("{}:{}", path.display(), test.location.line))?;
    }
    Ok(policy.tests.len())
}

/// What an entry expects, of an unnamed rule if it names none.
fn expected(test: &PolicyTest, mode: Mode) -> OracleDecision<'_> {
    OracleDecision {
        verdict: match test.expect {
            Verdict::Allow => Action::Allow,
            Verdict::Deny => Action::Deny,
            Verdict::Kernel => Action::Kernel,
        },
        rule: test.rule.as_deref(),
        report: true,
        enforced: mode == Mode::Enforce,
        errno: EACCES,
    }
}

fn bind_of(test: &PolicyTest) -> OracleBind {
    OracleBind {
        port: test.port,
        protocol: match test.protocol {
            Protocol::Tcp => Proto::Tcp,
            Protocol::Udp => Proto::Udp,
            Protocol::Sctp => Proto::Sctp,
            Protocol::Dccp => Proto::Dccp,
        },
        uid: test.user,
        euid: test.user,
        gid: test.user,
        egid: test.user,
        groups: test.groups.clone(),
        owners: Vec::new(),
        cgroup: test.cgroup.clone(),
        // A test without an address binds one of the loopback interface.
        address: if test.address.is_unspecified() {
            ADDRESS.into()
        } else {
            test.address
        },
        v6only: false,
    }
}
