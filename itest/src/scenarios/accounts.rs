//! Users and groups that come and go: their rules hold from then on, without a reload.

use super::checks::{default, deny, expect_decision};
use crate::harness::Table;
use crate::harness::env::Kind;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub(super) const TESTS: Table = &[("accounts_come_and_go", Needs::Nothing, accounts_come_and_go)];

const POLICY: &str = "version: 1
rules:
  - { name: known, action: deny, ports: [701], users: [root] }
  - { name: late, action: deny, ports: [702, 703], users: [portguard-late] }
";

const LATE: u32 = 54_321;
const CHANGED: &str = "portguard: accounts have changed";

/// The files of the accounts that the daemon sees.
struct Accounts {
    directory: PathBuf,
    /// They are put back at the end, where they are those of the machine.
    before: Option<String>,
    copy: Option<TempDir>,
}

impl Accounts {
    /// Those of a guest, or a copy of those of a machine with other users.
    fn new(env: &TestEnv) -> anyhow::Result<Self> {
        if env.kind != Kind::Native {
            return Ok(Self {
                directory: "/etc".into(),
                before: Some(fs::read_to_string("/etc/passwd")?),
                copy: None,
            });
        }
        let copy = tempfile::tempdir()?;
        for name in ["passwd", "group", "nsswitch.conf"] {
            if let Ok(text) = fs::read(Path::new("/etc").join(name)) {
                fs::write(copy.path().join(name), text)?;
            }
        }
        Ok(Self {
            directory: copy.path().to_owned(),
            before: None,
            copy: Some(copy),
        })
    }

    /// Runs the command with the copy in place of /etc, in a mount namespace of its own.
    fn wrap(&self, command: &mut Command) {
        let Some(copy) = &self.copy else {
            return;
        };
        let mut wrapped = Command::new("unshare");
        wrapped
            .args(["-m", "sh", "-c", "mount --bind \"$0\" /etc && exec \"$@\""])
            .arg(copy.path())
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        *command = wrapped;
    }

    /// Replaces /etc/passwd by a rename, as useradd(8) does.
    fn replace(&self, change: impl FnOnce(String) -> String) -> anyhow::Result<()> {
        let (path, next) = (
            self.directory.join("passwd"),
            self.directory.join("passwd+"),
        );
        fs::write(&next, change(fs::read_to_string(&path)?))?;
        fs::rename(next, path)?;
        Ok(())
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write("/etc/passwd", before);
        }
    }
}

fn bound_by(uid: u32, port: u16) -> Probe {
    Probe::user(uid).bind(Attempt::tcp(port))
}

/// The name is unknown, then has a uid, then another one, then is gone.
fn accounts_come_and_go(env: &TestEnv) -> anyhow::Result<()> {
    let accounts = Accounts::new(env)?;
    let arguments = ["--no-fold", "--output", "json"];
    let prepare = |command: &mut Command, _: &Path| {
        accounts.wrap(command);
        Ok(())
    };
    let mut instance = Instance::start_prepared(env, POLICY, env.auto_hook(), &arguments, prepare)?;
    let problem =
        "unknown user portguard-late: this entry of rule late matches nobody until the user exists";
    expect_problem(&instance, Some(problem))?;
    expect_decision(env, &instance, &bound_by(0, 701), deny("known"))?;
    expect_decision(env, &instance, &bound_by(LATE, 702), default("kernel"))?;
    for uid in [LATE, LATE + 1] {
        let line = |uid| format!("portguard-late:x:{uid}:{uid}::/:/bin/false\n");
        accounts.replace(|text| text.replace(&line(LATE), "") + &line(uid))?;
        instance.wait_for(CHANGED)?;
        expect_problem(&instance, None)?;
        expect_decision(env, &instance, &bound_by(uid, 702), deny("late"))?;
        let other = if uid == LATE { LATE + 1 } else { LATE };
        expect_decision(env, &instance, &bound_by(other, 703), default("kernel"))?;
    }
    accounts.replace(|text| text.replace("portguard-late", "portguard-other"))?;
    instance.wait_for(CHANGED)?;
    expect_problem(&instance, Some(problem))?;
    expect_decision(env, &instance, &bound_by(LATE + 1, 702), default("kernel"))?;
    expect_decision(env, &instance, &bound_by(0, 701), deny("known"))?;
    instance.stop()?;
    Ok(())
}

/// `status` has this problem or none, and enforces either way.
fn expect_problem(instance: &Instance, expected: Option<&str>) -> anyhow::Result<()> {
    let status = instance.status()?;
    let problems = status["problems"].as_array().context("problems")?;
    let good = match expected {
        Some(expected) => {
            problems.len() == 1
                && problems[0]
                    .as_str()
                    .is_some_and(|of| of.ends_with(expected))
        }
        None => problems.is_empty(),
    };
    ensure!(good && status["enforcing"] == "enforce", "{status}");
    Ok(())
}
