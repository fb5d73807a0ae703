//! Changes of policy files: later binds are decided by the new files, however they are replaced; broken files change
//! nothing and are reported.

use super::checks::{default, deny, expect_decision};
use crate::harness::Table;
use crate::harness::instance::Instance;
use crate::harness::lines::DEADLINE;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::scrape::{Scraped, free_address};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, anyhow, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("policy_file_changed", Needs::Nothing, file_changed),
    (
        "policy_directory_changed",
        Needs::Nothing,
        directory_changed,
    ),
    (
        "policy_config_map_changed",
        Needs::Nothing,
        config_map_changed,
    ),
    ("policy_broken_on_reload", Needs::Nothing, broken_on_reload),
    ("policy_half_written", Needs::Nothing, half_written),
    ("policy_not_watched", Needs::Nothing, not_watched),
    (
        "policy_writable_by_others",
        Needs::Nothing,
        writable_by_others,
    ),
];

const IN_FORCE: &str = "is in force";
const REFUSED: &str =
    "portguard: reload failed, keeping the previous policy: fix the files and reload again";

fn denying(port: u16) -> String {
    format!("version: 1\nrules:\n  - {{ name: only, action: deny, ports: [{port}], users: [0] }}\n")
}

fn root(port: u16) -> Probe {
    Probe::user(0).bind(Attempt::tcp(port))
}

/// Root is denied `port` and may bind `free`.
fn denies(env: &TestEnv, instance: &Instance, port: u16, free: u16) -> anyhow::Result<()> {
    expect_decision(env, instance, &root(port), deny("only"))?;
    expect_decision(env, instance, &root(free), default("kernel"))?;
    Ok(())
}

/// The number of reloads that succeeded; none may have failed.
fn reloads(instance: &Instance, done: u64) -> anyhow::Result<()> {
    let status = instance.status()?;
    let reloads = &status["reloads"];
    ensure!(
        reloads["done"] == done && reloads["failed"] == 0,
        "not {done} reloads: {reloads}; stderr:\n{}",
        instance.stderr
    );
    Ok(())
}

/// The file changes between being read and being watched, in place, and by a rename; then SIGHUP reloads it unchanged.
fn file_changed(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (path, mark) = (
        directory.path().join("p.yaml"),
        directory.path().join("mark"),
    );
    fs::write(&path, denying(701))?;
    let sink = format!("file:{}", mark.display());
    let (changed, until) = (path.clone(), Instant::now() + DEADLINE);
    let changing = std::thread::spawn(move || {
        // It opens its sinks after it has read the policy and before it loads its programs.
        while !mark.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::write(changed, denying(702))
    });
    let arguments = ["--no-fold", "--sink", "stdout", "--sink", &sink];
    let mut instance = Instance::start_on(env, &path, env.auto_hook(), &arguments)?;
    instance.wait_for(IN_FORCE)?;
    let written = changing.join();
    written.map_err(|_| anyhow!("the writer panicked"))??;
    denies(env, &instance, 702, 701)?;
    fs::write(&path, denying(703))?;
    instance.wait_for(IN_FORCE)?;
    denies(env, &instance, 703, 702)?;
    let next = directory.path().join("next");
    fs::write(&next, denying(704))?;
    fs::rename(&next, &path)?;
    instance.wait_for(IN_FORCE)?;
    denies(env, &instance, 704, 703)?;
    reloads(&instance, 3)?;
    instance.signal(Signal::HUP)?;
    instance.wait_for(IN_FORCE)?;
    denies(env, &instance, 704, 703)?;
    reloads(&instance, 4)?;
    instance.stop()?;
    Ok(())
}

/// Policy files appear and vanish; other files change nothing.
fn directory_changed(env: &TestEnv) -> anyhow::Result<()> {
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
    instance.wait_for(IN_FORCE)?;
    expect_decision(env, &instance, &root(701), deny("only"))?;
    expect_decision(env, &instance, &root(702), deny("second"))?;
    fs::rename(path.join("10-first.yaml"), path.join("10-first.off"))?;
    instance.wait_for(IN_FORCE)?;
    expect_decision(env, &instance, &root(701), default("kernel"))?;
    expect_decision(env, &instance, &root(702), deny("second"))?;
    fs::rename(path.join("10-first.off"), path.join("30-last.yml"))?;
    instance.wait_for(IN_FORCE)?;
    fs::remove_file(path.join("20-second.yaml"))?;
    instance.wait_for(IN_FORCE)?;
    denies(env, &instance, 701, 702)?;
    reloads(&instance, 4)?;
    instance.stop()?;
    Ok(())
}

fn started_on(env: &TestEnv, path: &Path) -> anyhow::Result<Instance> {
    let arguments = ["--no-fold", "--output", "json"];
    Instance::start_on(env, path, env.auto_hook(), &arguments)
}

/// The files are links through `..data`, and that link is replaced, as the kubelet does.
fn config_map_changed(env: &TestEnv) -> anyhow::Result<()> {
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
        instance.wait_for(IN_FORCE)?;
        denies(env, &instance, port, free)?;
    }
    reloads(&instance, 2)?;
    instance.stop()?;
    Ok(())
}

/// The first half of a file is a valid policy that denies nothing. It is never in force, and the whole file is.
fn half_written(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("p.yaml");
    fs::write(&path, denying(701))?;
    let mut instance = started_on(env, &path)?;
    denies(env, &instance, 701, 702)?;
    let mut file = fs::File::create(&path)?;
    file.write_all(b"version: 1\n")?;
    std::thread::sleep(Duration::from_secs(3));
    denies(env, &instance, 701, 702)?;
    reloads(&instance, 0)?;
    let text = denying(702);
    file.write_all(
        text.strip_prefix("version: 1\n")
            .unwrap_or(&text)
            .as_bytes(),
    )?;
    drop(file);
    instance.wait_for("is in force: rules ~1")?;
    denies(env, &instance, 702, 701)?;
    fs::write(
        &path,
        "version: 1\nprotect: [\"1-79\", \"81-1023\"]\nrules: []\n",
    )?;
    let weaker = "is in force: rules -1, ports no longer protected: 80, denials lost: only; weaker than before";
    instance.wait_for(weaker)?;
    reloads(&instance, 2)?;
    instance.stop()?;
    Ok(())
}

/// With `--no-watch` a changed file changes nothing until SIGHUP.
fn not_watched(env: &TestEnv) -> anyhow::Result<()> {
    let arguments = ["--no-fold", "--output", "json", "--no-watch"];
    let mut instance = Instance::start_by(env, &denying(701), env.auto_hook(), &arguments)?;
    instance.change(&denying(702))?;
    std::thread::sleep(Duration::from_secs(2));
    denies(env, &instance, 701, 702)?;
    reloads(&instance, 0)?;
    instance.signal(Signal::HUP)?;
    instance.wait_for(IN_FORCE)?;
    denies(env, &instance, 702, 701)?;
    instance.stop()?;
    Ok(())
}

/// A policy that others could change is refused until its mode is right again.
fn writable_by_others(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("p.yaml");
    fs::write(&path, denying(701))?;
    let mut instance = started_on(env, &path)?;
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
    let next = directory.path().join("next");
    fs::write(&next, denying(702))?;
    fs::set_permissions(&next, fs::Permissions::from_mode(0o666))?;
    fs::rename(&next, &path)?;
    instance.wait_for("has mode 0666, so that others than its owner could change the policy")?;
    instance.wait_for(REFUSED)?;
    denies(env, &instance, 701, 702)?;
    mode(0o644)?;
    instance.wait_for(IN_FORCE)?;
    denies(env, &instance, 702, 701)?;
    mode(0o666)?;
    instance.wait_for(REFUSED)?;
    instance.stop()?;
    let arguments = [
        "--no-fold",
        "--output",
        "json",
        "--insecure-policy-permissions",
    ];
    let instance = Instance::start_on(env, &path, env.auto_hook(), &arguments)?;
    denies(env, &instance, 702, 701)?;
    instance.stop()?;
    Ok(())
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The error and its place, as `portguard check` prints them.
const MISTAKE: [&str; 3] = [":2:1: unknown key `mod`", "^^^", "did you mean `mode`?"];

fn shows_mistake(text: &str) -> anyhow::Result<()> {
    for part in MISTAKE {
        ensure!(text.contains(part), "no {part:?} in:\n{text}");
    }
    Ok(())
}

/// A broken policy changes nothing, and is reported by stderr, `status` and metrics until it is fixed.
fn broken_on_reload(env: &TestEnv) -> anyhow::Result<()> {
    let address = free_address()?;
    let metrics = address.to_string();
    let arguments = ["--no-fold", "--output", "json", "--metrics", &metrics];
    let mut instance = Instance::start_by(env, &denying(701), env.auto_hook(), &arguments)?;
    denies(env, &instance, 701, 702)?;
    let before = instance.status()?["policy"].clone();
    instance.change("version: 1\nmod: audit\n")?;
    instance.wait_for(REFUSED)?;
    shows_mistake(&instance.stderr)?;
    expect_broken(&instance, address, &before, 1)?;
    let output = instance.command(&["reload"]).output()?;
    let (stdout, stderr) = texts(&output);
    ensure!(
        output.status.code() == Some(1)
            && stdout.is_empty()
            && stderr.ends_with("portguard: reload failed, keeping the previous policy\n"),
        "{output:?}"
    );
    shows_mistake(&stderr)?;
    expect_broken(&instance, address, &before, 2)?;
    denies(env, &instance, 701, 702)?;
    // A missing file is an error too.
    fs::remove_file(instance.policy_path()?)?;
    instance.wait_for("No such file or directory")?;
    denies(env, &instance, 701, 702)?;
    instance.change(&denying(702))?;
    instance.wait_for(IN_FORCE)?;
    denies(env, &instance, 702, 701)?;
    let output = instance.command(&["status"]).output()?;
    let (stdout, _) = texts(&output);
    ensure!(
        output.status.code() == Some(0) && !stdout.contains("the last reload failed"),
        "fixed, and still: {output:?}"
    );
    let status = instance.status()?;
    ensure!(status["reloads"]["error"] == Value::Null, "{status}");
    Scraped::from(address)?.check(&[
        ("portguard_reload_failed", &[], 0),
        ("portguard_reloads_total", &[("result", "failure")], 3),
        ("portguard_reloads_total", &[("result", "success")], 1),
    ])?;
    reload_command(env, instance)
}

/// `portguard reload`, with a daemon and without.
fn reload_command(env: &TestEnv, instance: Instance) -> anyhow::Result<()> {
    // A rule that can never decide is a warning, which the command prints.
    let dead = "  - { name: dead, action: deny, ports: [703], users: [0] }\n";
    instance.change(&(denying(703) + dead))?;
    let output = instance.command(&["reload"]).output()?;
    let (stdout, stderr) = texts(&output);
    let hash = instance.status()?["policy"]["hash"].clone();
    let hash = hash.as_str().context("hash")?;
    ensure!(
        output.status.code() == Some(0)
            && stdout
                == format!(
                    "policy {hash} is in force: rules +1 ~1, denials narrowed: only; weaker than before\n"
                ),
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
    let (stdout, stderr) = texts(&output);
    ensure!(
        output.status.code() == Some(3)
            && stdout.is_empty()
            && stderr.starts_with("portguard: no daemon at ")
            && stderr.contains("start `portguard run`"),
        "{output:?}"
    );
    Ok(())
}

/// Whether `status` as text and as JSON, and the metrics, report the broken policy.
fn expect_broken(
    instance: &Instance,
    address: SocketAddr,
    policy: &Value,
    failed: u32,
) -> anyhow::Result<()> {
    let output = instance.command(&["status"]).output()?;
    let (stdout, _) = texts(&output);
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
    Scraped::from(address)?.check(&[
        ("portguard_reload_failed", &[], 1),
        ("portguard_reloads_total", &[("result", "failure")], failed),
        ("portguard_enforcing", &[], 1),
    ])
}
