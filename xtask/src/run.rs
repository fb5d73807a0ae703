//! The verb `run`: portguard on this machine or in a guest.

use crate::build::{self, Profile};
use crate::vm::GuestSpec;
use crate::{guest, shell, tools};
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;

const DEFAULT_POLICY: &str = "policies/default.yaml";

/// Replaces xtask by portguard, so that signals reach it and the exit code is its own.
pub(crate) fn here(args: &[String]) -> Result<ExitCode> {
    build::everything(Profile::Release)?;
    let mut portguard = shell::as_root(Profile::Release.program(build::PROGRAM));
    // The checkout belongs to a developer, and portguard runs as root.
    portguard.args(["run", "--insecure-policy-permissions"]);
    if policy_in(args).is_none() {
        portguard.args(["--policy", DEFAULT_POLICY]);
    } else {
        // The path in the arguments is relative to the directory of the caller.
        portguard.current_dir(std::env::current_dir()?);
    }
    portguard.args(args);
    shell::print(&portguard);
    let error = portguard.exec();
    Err(error).with_context(|| format!("running {}", shell::line(&portguard)))
}

/// Demonstrates portguard in a guest: the binds of the tests in the policy, and the decisions.
pub(crate) fn in_guest(series: &str, args: &[String]) -> Result<ExitCode> {
    ensure!(
        policies_in(args) <= 1,
        "a guest takes one --policy; put several files into a directory"
    );
    build::everything(Profile::Release)?;
    tools::for_guests()?;
    let mut spec = GuestSpec::new(series, "demo", &["demo", "--policy"]);
    if let Some((policy, rest)) = policy_in(args) {
        let policy = Path::new(&policy);
        ensure!(policy.exists(), "no policy {}", policy.display());
        let Some(name) = policy.file_name() else {
            bail!("{} is not the path of a policy", policy.display());
        };
        let name = format!("given/{}", name.to_string_lossy());
        spec.arguments.push(format!("/{name}"));
        spec.files.push((std::path::absolute(policy)?, name));
        spec.after_dashes(&rest);
    } else {
        spec.arguments.push(format!("/{DEFAULT_POLICY}"));
        spec.after_dashes(args);
    }
    guest::live(spec)
}

/// The number of policies in the arguments.
fn policies_in(args: &[String]) -> usize {
    let named = |arg: &&String| *arg == "--policy" || arg.starts_with("--policy=");
    args.iter().filter(named).count()
}

/// The policy in the arguments, and the other arguments.
fn policy_in(args: &[String]) -> Option<(String, Vec<String>)> {
    let (mut policy, mut rest) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--policy" {
            policy = Some(args.next()?.clone());
        } else if let Some(path) = arg.strip_prefix("--policy=") {
            policy = Some(path.to_owned());
        } else {
            rest.push(arg.clone());
        }
    }
    policy.map(|policy| (policy, rest))
}

#[cfg(test)]
mod tests {
    use super::{policies_in, policy_in};

    #[test]
    fn policy_in_finds_both_spellings() {
        let args = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let found = |words| policy_in(&args(words));
        let given = Some(("p.yaml".to_owned(), args("--hook lsm")));
        assert_eq!(found("--policy p.yaml --hook lsm"), given);
        assert_eq!(found("--hook lsm --policy=p.yaml"), given);
        assert_eq!(found("--hook lsm"), None);
        assert_eq!(policies_in(&args("--policy a --hook lsm --policy=b")), 2);
    }
}
