//! A start with broken files: the last policy in force is enforced until they are fixed.

use super::checks::{default, deny, expect_decision};
use crate::harness::Table;
use crate::harness::instance::{Instance, program};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::scrape::{Scraped, free_address};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

pub(super) const TESTS: Table = &[
    (
        "start_with_broken_files_enforces_the_last_policy",
        Needs::Nothing,
        last_policy,
    ),
    (
        "start_with_broken_files_and_no_policy_kept",
        Needs::Nothing,
        nothing_kept,
    ),
];

fn denying(port: u16) -> String {
    format!("version: 1\nrules:\n  - {{ name: only, action: deny, ports: [{port}], users: [0] }}\n")
}

fn root(port: u16) -> Probe {
    Probe::user(0).bind(Attempt::tcp(port))
}

fn last_policy(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (path, state) = (
        directory.path().join("p.yaml"),
        directory.path().join("state"),
    );
    let (state, address) = (state.to_str().context("a path")?, free_address()?);
    let metrics = address.to_string();
    let arguments = [
        "--no-fold",
        "--output",
        "json",
        "--state",
        state,
        "--metrics",
        &metrics,
    ];
    let start = || Instance::start_on(env, &path, env.auto_hook(), &arguments);
    fs::write(&path, denying(701))?;
    let mut instance = start()?;
    // The policy of a reload is kept too.
    fs::write(&path, denying(702))?;
    instance.wait_for("is in force: rules ~1")?;
    let hash = instance.status()?["policy"]["hash"].clone();
    instance.stop()?;
    fs::write(&path, "version: 1\nmod: audit\n")?;
    let mut instance = start()?;
    expect_decision(env, &instance, &root(702), deny("only"))?;
    expect_decision(env, &instance, &root(701), default("kernel"))?;
    for said in [
        "unknown key `mod`",
        "portguard: warning: the policy's files are broken: the last policy",
    ] {
        ensure!(instance.stderr.contains(said), "{}", instance.stderr);
    }
    expect_kept(&instance, &hash, address)?;
    // What stands in is not kept in place of itself, and ends when the files are fixed.
    fs::write(&path, denying(703))?;
    instance.wait_for("is in force: rules ~1")?;
    expect_decision(env, &instance, &root(703), deny("only"))?;
    let status = instance.status()?;
    let problems = status["problems"].as_array().context("problems")?;
    ensure!(
        status["fallback"].is_null() && problems.is_empty(),
        "{status}"
    );
    instance.stop()?;
    Ok(())
}

/// `status` and the metrics say that the policy of this hash is enforced in place of broken files.
fn expect_kept(instance: &Instance, hash: &Value, address: SocketAddr) -> anyhow::Result<()> {
    let status = instance.status()?;
    let problem = status["problems"][0].as_str().context("a problem")?;
    ensure!(
        status["fallback"] == "kept"
            && status["enforcing"] == "enforce"
            && status["policy"]["hash"] == *hash
            && problem.starts_with(
                "the policy's files are broken: the last policy in force is enforced, "
            ),
        "{status}"
    );
    Scraped::from(address)?.check(&[
        ("portguard_fallback", &[("policy", "kept")], 1),
        ("portguard_reload_failed", &[], 1),
        ("portguard_problems", &[], 1),
        ("portguard_enforcing", &[], 1),
    ])?;
    let shown = instance.command(&["status"]).output()?;
    ensure!(shown.status.code() == Some(1), "{shown:?}");
    Ok(())
}

/// Nothing is enforced, and the log says so; a damaged kept policy counts as none.
fn nothing_kept(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (path, state) = (
        directory.path().join("p.yaml"),
        directory.path().join("state"),
    );
    let arguments = [
        "--no-fold",
        "--output",
        "json",
        "--state",
        state.to_str().context("a path")?,
    ];
    fs::write(&path, denying(701))?;
    Instance::start_on(env, &path, env.auto_hook(), &arguments)?.stop()?;
    fs::write(&path, "version: 1\nmod: audit\n")?;
    for entry in fs::read_dir(&state)? {
        let kept = entry?.path();
        let text = fs::read_to_string(&kept)?;
        fs::write(kept, text.replace("701", "702"))?;
    }
    let output = Command::new(program())
        .args(["run", "--policy"])
        .arg(&path)
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1)
            && said.contains("is damaged, and is not used: its digest does not match")
            && said.contains("unknown key `mod`")
            && said.contains("no earlier policy is kept: nothing is enforced by this start"),
        "{output:?}"
    );
    Ok(())
}
