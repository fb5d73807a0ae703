//! The policy's files change while it is in force: by every way in which they are changed, the binds that
//! follow are decided by what they say then; broken ones change nothing and are told everywhere.

use super::Table;
use super::checks::{default, deny, judged};
use crate::harness::instance::{DEADLINE, Instance};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::scrape::{Scraped, free_address};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, anyhow, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("changed_file", Needs::Nothing, changed_file),
    ("changed_directory", Needs::Nothing, changed_directory),
    ("changed_config_map", Needs::Nothing, changed_config_map),
    ("broken_policy_is_told", Needs::Nothing, broken_is_told),
];

const TAKEN: &str = "is in force";
const REFUSED: &str =
    "portguard: reload failed, keeping the previous policy: mend the files and reload again";

/// Denies root one port.
fn denying(port: u16) -> String {
    format!("version: 1\nrules:\n  - {{ name: only, action: deny, ports: [{port}], users: [0] }}\n")
}

fn root(port: u16) -> Probe {
    Probe::user(0).bind(Attempt::tcp(port))
}

/// Root may not bind the port, and may bind the one that it could not before.
fn denies(env: &TestEnv, instance: &Instance, port: u16, free: u16) -> anyhow::Result<()> {
    judged(env, instance, &root(port), deny("only"))?;
    judged(env, instance, &root(free), default("kernel"))?;
    Ok(())
}

/// How many reloads succeeded, and that none failed.
fn reloads(instance: &Instance, done: u64) -> anyhow::Result<()> {
    let status = instance.status()?;
    let reloads = &status["reloads"];
    ensure!(
        reloads["done"] == done && reloads["failed"] == 0,
        "not {done} reloads: {reloads}; it said:\n{}",
        instance.said
    );
    Ok(())
}

/// Between the moment at which it was read and that from which on it is watched; in place; and by another file
/// under its name: nobody tells the daemon. Then by SIGHUP without a change.
fn changed_file(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (path, mark) = (
        directory.path().join("p.yaml"),
        directory.path().join("mark"),
    );
    fs::write(&path, denying(701))?;
    let sink = format!("file:{}", mark.display());
    let (changed, until) = (path.clone(), Instant::now() + DEADLINE);
    let changing = std::thread::spawn(move || {
        // It opens its sinks once it has read the policy, and then loads its programs.
        while !mark.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::write(changed, denying(702))
    });
    let arguments = ["--no-fold", "--sink", "stdout", "--sink", &sink];
    let mut instance = Instance::start_on(env, &path, env.auto_hook(), &arguments)?;
    instance.wait_for(TAKEN)?;
    let written = changing.join();
    written.map_err(|_| anyhow!("the writer panicked"))??;
    denies(env, &instance, 702, 701)?;
    fs::write(&path, denying(703))?;
    instance.wait_for(TAKEN)?;
    denies(env, &instance, 703, 702)?;
    let next = directory.path().join("next");
    fs::write(&next, denying(704))?;
    fs::rename(&next, &path)?;
    instance.wait_for(TAKEN)?;
    denies(env, &instance, 704, 703)?;
    reloads(&instance, 3)?;
    instance.signal(Signal::HUP)?;
    instance.wait_for(TAKEN)?;
    denies(env, &instance, 704, 703)?;
    reloads(&instance, 4)?;
    instance.stop()?;
    Ok(())
}

/// Files come and go; those that are none of the policy's change nothing.
fn changed_directory(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    let second = "version: 1\nrules: [{ name: second, action: deny, ports: [702], users: [0] }]\n";
    fs::write(path.join("10-first.yaml"), denying(701))?;
    let mut instance = started_on(env, path)?;
    denies(env, &instance, 701, 702)?;
    for other in [".20-hidden.yaml", "notes.txt", "20-second.yaml~"] {
        fs::write(path.join(other), "no policy: [")?;
    }
    fs::write(path.join("20-second.yaml"), second)?;
    instance.wait_for(TAKEN)?;
    judged(env, &instance, &root(701), deny("only"))?;
    judged(env, &instance, &root(702), deny("second"))?;
    fs::rename(path.join("10-first.yaml"), path.join("10-first.off"))?;
    instance.wait_for(TAKEN)?;
    judged(env, &instance, &root(701), default("kernel"))?;
    judged(env, &instance, &root(702), deny("second"))?;
    fs::rename(path.join("10-first.off"), path.join("30-last.yml"))?;
    instance.wait_for(TAKEN)?;
    fs::remove_file(path.join("20-second.yaml"))?;
    instance.wait_for(TAKEN)?;
    denies(env, &instance, 701, 702)?;
    reloads(&instance, 4)?;
    instance.stop()?;
    Ok(())
}

fn started_on(env: &TestEnv, path: &Path) -> anyhow::Result<Instance> {
    let arguments = ["--no-fold", "--output", "json"];
    Instance::start_on(env, path, env.auto_hook(), &arguments)
}

/// As the kubelet does it: the files are links through `..data`, and that link is replaced.
fn changed_config_map(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    let publish = |version: &str, port: u16| -> anyhow::Result<()> {
        fs::create_dir(path.join(version))?;
        fs::write(path.join(version).join("policy.yaml"), denying(port))?;
        symlink(version, path.join("..data_tmp"))?;
        fs::rename(path.join("..data_tmp"), path.join("..data"))?;
        Ok(())
    };
    publish("..v1", 701)?;
    symlink("..data/policy.yaml", path.join("policy.yaml"))?;
    let mut instance = started_on(env, path)?;
    denies(env, &instance, 701, 702)?;
    for (version, before, port, free) in [("..v2", "..v1", 702, 701), ("..v3", "..v2", 703, 702)] {
        publish(version, port)?;
        fs::remove_dir_all(path.join(before))?;
        instance.wait_for(TAKEN)?;
        denies(env, &instance, port, free)?;
    }
    reloads(&instance, 2)?;
    instance.stop()?;
    Ok(())
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The mistake and its caret, as `portguard check` shows them.
const MISTAKE: [&str; 3] = [":2:1: unknown key `mod`", "^^^", "did you mean `mode`?"];

fn shows_mistake(text: &str) -> anyhow::Result<()> {
    for part in MISTAKE {
        ensure!(text.contains(part), "no {part:?} in:\n{text}");
    }
    Ok(())
}

/// A broken policy changes nothing, and is told by all that tell how it stands, until it is mended.
fn broken_is_told(env: &TestEnv) -> anyhow::Result<()> {
    let address = free_address()?;
    let metrics = address.to_string();
    let arguments = ["--no-fold", "--output", "json", "--metrics", &metrics];
    let mut instance = Instance::start_by(env, &denying(701), env.auto_hook(), &arguments)?;
    denies(env, &instance, 701, 702)?;
    let before = instance.status()?["policy"].clone();
    instance.change("version: 1\nmod: audit\n")?;
    instance.wait_for(REFUSED)?;
    shows_mistake(&instance.said)?;
    told_broken(&instance, address, &before, 1)?;
    let output = instance.command(&["reload"]).output()?;
    let (stdout, stderr) = said(&output);
    ensure!(
        output.status.code() == Some(1)
            && stdout.is_empty()
            && stderr.ends_with("portguard: reload failed, keeping the previous policy\n"),
        "{output:?}"
    );
    shows_mistake(&stderr)?;
    told_broken(&instance, address, &before, 2)?;
    denies(env, &instance, 701, 702)?;
    // No files at all are as broken.
    fs::remove_file(instance.policy_path()?)?;
    instance.wait_for("No such file or directory")?;
    denies(env, &instance, 701, 702)?;
    instance.change(&denying(702))?;
    instance.wait_for(TAKEN)?;
    denies(env, &instance, 702, 701)?;
    let output = instance.command(&["status"]).output()?;
    let (stdout, _) = said(&output);
    ensure!(
        output.status.code() == Some(0) && !stdout.contains("the last failed"),
        "mended, and still: {output:?}"
    );
    let status = instance.status()?;
    ensure!(status["reloads"]["error"] == Value::Null, "{status}");
    Scraped::from(address)?.says(&[
        ("portguard_reload_failed", &[], 0),
        ("portguard_reloads_total", &[("result", "failure")], 3),
        ("portguard_reloads_total", &[("result", "success")], 1),
    ])?;
    reload_command(env, instance)
}

/// `portguard reload`, with a daemon and without.
fn reload_command(env: &TestEnv, instance: Instance) -> anyhow::Result<()> {
    // A rule that can never decide is a warning, which whoever reloads sees.
    let dead = "  - { name: dead, action: deny, ports: [703], users: [0] }\n";
    instance.change(&(denying(703) + dead))?;
    let output = instance.command(&["reload"]).output()?;
    let (stdout, stderr) = said(&output);
    let hash = instance.status()?["policy"]["hash"].clone();
    let hash = hash.as_str().context("hash")?;
    ensure!(
        output.status.code() == Some(0) && stdout == format!("policy {hash} is in force\n"),
        "{output:?}"
    );
    ensure!(
        stderr.contains("warning: ") && stderr.contains("dead"),
        "{stderr}"
    );
    denies(env, &instance, 703, 702)?;
    let mut orphan = instance.command(&["reload"]);
    instance.stop()?;
    let output = orphan.output()?;
    let (stdout, stderr) = said(&output);
    ensure!(
        output.status.code() == Some(3)
            && stdout.is_empty()
            && stderr.starts_with("portguard: no daemon at ")
            && stderr.contains("start `portguard run`"),
        "{output:?}"
    );
    Ok(())
}

/// `status` as text and as JSON, and the metrics.
fn told_broken(
    instance: &Instance,
    address: SocketAddr,
    policy: &Value,
    failed: u32,
) -> anyhow::Result<()> {
    let output = instance.command(&["status"]).output()?;
    let (stdout, _) = said(&output);
    let counted = format!("0 done, {failed} failed, the last ");
    ensure!(
        output.status.code() == Some(1)
            && stdout.contains(&counted)
            && stdout.contains("the last reload failed, keeping the previous policy:"),
        "{output:?}"
    );
    shows_mistake(&stdout)?;
    let status = instance.status()?;
    let error = status["reloads"]["error"].as_str();
    shows_mistake(error.with_context(|| status.to_string())?)?;
    ensure!(
        status["enforcing"] == "enforce" && status["policy"] == *policy,
        "something changed: {status}"
    );
    Scraped::from(address)?.says(&[
        ("portguard_reload_failed", &[], 1),
        ("portguard_reloads_total", &[("result", "failure")], failed),
        ("portguard_enforcing", &[], 1),
    ])
}
