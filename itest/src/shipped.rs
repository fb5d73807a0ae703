//! `portguard-itest shipped`: the policies that portguard ships, each put to its own `tests:`.
//!
//! Every entry is made a real bind, by that user in that cgroup, under the real portguard with that
//! policy: the errno and the event must be what the entry expects.

use crate::daemon::Daemon;
use crate::harness::bind_runner::{ADDRESS, Cgroups, Powers, attempt, by_kernel};
use crate::oracle::{Action, Answer, OracleBind, Proto};
use crate::property::{next_event, same};
use anyhow::{Context, ensure};
use portguard_common::{Protocol, Verdict};
use portguard_policy::policy::{Mode, Policy, PolicyTest, SystemNames};
use std::path::{Path, PathBuf};

/// Where the policies may lie: in a guest, in a checkout.
const PLACES: [&str; 2] = ["/policies", "policies"];

/// The verb `shipped`.
pub fn run() -> anyhow::Result<()> {
    for path in policies(&directory()?)? {
        let entries = put_to_the_test(&path).with_context(|| path.display().to_string())?;
        println!("shipped: {} holds, {entries} binds", path.display());
    }
    Ok(())
}

fn directory() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTGUARD_POLICIES") {
        return Ok(path.into());
    }
    PLACES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_dir())
        .context("no policies: set PORTGUARD_POLICIES")
}

/// The policy files of a directory, in order.
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
    ensure!(!paths.is_empty(), "{} holds no policy", directory.display());
    Ok(paths)
}

/// Reads a shipped policy: it must have no problem, and not even a warning.
pub fn read(path: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(path)?;
    let loaded = portguard_policy::policy::parse(path, &text, &SystemNames::LOCAL)
        .map_err(|problems| anyhow::anyhow!("{}", problems.render(false)))?;
    let warnings = loaded.warnings.render(false);
    ensure!(warnings.is_empty(), "has warnings:\n{warnings}");
    Ok(loaded.policy)
}

/// Entries that would hold for any policy prove nothing: there must be an allowed bind and a refused one.
pub fn sees_both(policy: &Policy) -> anyhow::Result<()> {
    let expects = |verdict| policy.tests.iter().any(|test| test.expect == verdict);
    ensure!(
        expects(Verdict::Allow),
        "no entry of `tests:` expects allow"
    );
    ensure!(expects(Verdict::Deny), "no entry of `tests:` expects deny");
    Ok(())
}

fn put_to_the_test(path: &Path) -> anyhow::Result<usize> {
    let policy = read(path)?;
    sees_both(&policy)?;
    let mut cgroups = Cgroups::default();
    for test in &policy.tests {
        cgroups.make(&test.cgroup)?;
    }
    let daemon = Daemon::start(path)?;
    let powers = Powers::of(daemon.by_cgroup_hook())?;
    let entries: Vec<(usize, &PolicyTest, OracleBind)> = policy
        .tests
        .iter()
        .map(|test| (test, bind_of(test)))
        .filter(|(_, bind)| !matches!(bind.protocol, Proto::Sctp | Proto::Dccp))
        .enumerate()
        .map(|(i, (test, bind))| (i, test, bind))
        .collect();
    let binds: Vec<&OracleBind> = entries.iter().map(|(_, _, bind)| bind).collect();
    let errnos = attempt(&binds)?;
    for ((i, test, bind), got) in entries.iter().zip(errnos) {
        one(&daemon, powers, policy.mode, (*i, test, bind), got)
            .with_context(|| format!("{}:{}", path.display(), test.location.line))?;
    }
    Ok(policy.tests.len())
}

/// Bind number `i` of an entry ended with `got`: so must it have, and its event say so.
fn one(
    daemon: &Daemon,
    powers: Powers,
    mode: Mode,
    (i, test, bind): (usize, &PolicyTest, &OracleBind),
    got: i32,
) -> anyhow::Result<()> {
    let verdict = match test.expect {
        Verdict::Allow => Action::Allow,
        Verdict::Deny => Action::Deny,
        Verdict::Kernel => Action::Kernel,
    };
    let enforced = mode == Mode::Enforce;
    let wanted = if enforced {
        powers.errno(bind, verdict)
    } else {
        by_kernel(bind)
    };
    ensure!(
        got == wanted,
        "{bind:?} ended with errno {got}, not {wanted}"
    );
    let Some(event) = next_event(daemon, i).ok() else {
        // An entry may be about a port that is not protected, or a policy may log less.
        ensure!(verdict == Action::Kernel, "{bind:?} made no event");
        return Ok(());
    };
    let rule = test.rule.as_deref().or_else(|| event["rule"].as_str());
    let answer = Answer {
        verdict,
        rule,
        report: true,
        enforced,
    };
    same(&event, bind, &answer).with_context(|| format!("reported as {event}"))
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
        gids: if test.groups.is_empty() {
            vec![test.user]
        } else {
            test.groups.clone()
        },
        cgroup: test.cgroup.clone(),
        // Where the test names no address, the loopback interface does.
        address: if test.address.is_unspecified() {
            ADDRESS.into()
        } else {
            test.address
        },
        v6only: false,
    }
}
