//! The command line and the environment: exit codes, what is said where something is missing, escaped text.

use super::Table;
use super::checks::{allow, default, judged};
use super::decisions::POLICY;
use crate::harness::active_lsms;
use crate::harness::bind_runner::Cgroups;
use crate::harness::instance::{Instance, policy_file, program};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Kind, Needs, TestEnv};
use anyhow::ensure;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub(super) const TESTS: Table = &[
    ("auto_says_its_hook", Needs::Nothing, auto_says_its_hook),
    (
        "hook_lsm_needs_bpf_in_lsm",
        Needs::NoLsm,
        hook_lsm_needs_bpf_in_lsm,
    ),
    ("unprivileged", Needs::Nothing, unprivileged),
    ("exit_codes", Needs::Nothing, exit_codes),
    ("broken_policy", Needs::Nothing, broken_policy),
    ("control_bytes", Needs::Nothing, control_bytes),
];

/// Runs portguard to its end: exit code and stderr.
fn ended(arguments: &[&str], uid: Option<u32>) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = Command::new(program());
    command.args(arguments);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((
        output.status.code(),
        said + &String::from_utf8_lossy(&output.stdout),
    ))
}

fn auto_says_its_hook(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start_with(env, POLICY, "auto", "json")?;
    let said = &instance.said;
    ensure!(
        said.contains(&format!("hook {}", env.auto_hook())),
        "which hook? {said}"
    );
    if env.auto_hook() == "cgroup" {
        ensure!(
            said.contains("LSM") && said.contains("SCTP"),
            "what is left out, and why? {said}"
        );
    }
    if env.kind == Kind::GuestWithoutLsm {
        ensure!(said.contains("bpf"), "what is missing? {said}");
    }
    Ok(())
}

fn hook_lsm_needs_bpf_in_lsm(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file(POLICY)?;
    let path = policy.path().display().to_string();
    let (code, said) = ended(&["run", "--hook", "lsm", "--policy", &path], None)?;
    ensure!(code == Some(3), "exit code {code:?}: {said}");
    let parameter = said.split_whitespace().find(|word| word.contains("lsm="));
    let value = parameter
        .and_then(|word| {
            word.trim_matches(['`', '\'', '"', '.', ','])
                .split_once("lsm=")
        })
        .map(|(_, value)| value.split(',').collect::<Vec<_>>())
        .unwrap_or_default();
    // Those that are always on and have fixed places are no part of the parameter.
    let mut wanted = active_lsms::active()?;
    wanted.retain(|name| !matches!(name.as_str(), "capability" | "ima" | "evm"));
    ensure!(wanted.iter().all(|name| name != "bpf"), "bpf is active");
    wanted.push("bpf".into());
    ensure!(
        value == wanted,
        "the boot parameter is not lsm={}: {said}",
        wanted.join(",")
    );
    Ok(())
}

fn unprivileged(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file(POLICY)?;
    std::fs::set_permissions(
        policy.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )?;
    let path = policy.path().display().to_string();
    let (code, said) = ended(&["run", "--policy", &path], Some(1000))?;
    ensure!(code == Some(3), "exit code {code:?}: {said}");
    ensure!(
        ["CAP_NET_ADMIN", "CAP_BPF"]
            .iter()
            .all(|name| said.contains(name)),
        "which capabilities are missing? {said}"
    );
    let (code, said) = ended(&["doctor"], Some(1000))?;
    ensure!(
        code == Some(3) || code == Some(1),
        "doctor sees nothing wrong, exit code {code:?}: {said}"
    );
    Ok(())
}

fn exit_codes(_: &TestEnv) -> anyhow::Result<()> {
    let (code, said) = ended(&["doctor"], None)?;
    ensure!(
        code == Some(0),
        "doctor where run works: exit code {code:?}: {said}"
    );
    for arguments in [
        &["run", "--no-such-option"][..],
        &["no-such-verb"],
        &["run", "--hook", "none"],
    ] {
        let (code, said) = ended(arguments, None)?;
        ensure!(code == Some(2), "{arguments:?}: exit code {code:?}: {said}");
    }
    Ok(())
}

fn broken_policy(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file("version: 1\nrules:\n  - { name: web, action: alow, ports: [80] }\n")?;
    let path = policy.path().display().to_string();
    for verb in [&["run", "--policy", &path][..], &["check", &path]] {
        let (code, said) = ended(verb, None)?;
        ensure!(code == Some(1), "{verb:?}: exit code {code:?}: {said}");
        ensure!(
            said.starts_with(&format!("{path}:3:26: ")),
            "{verb:?}: not {path}:3:26 first: {said}"
        );
    }
    let good = policy_file(POLICY)?;
    let (code, said) = ended(&["check", &good.path().display().to_string()], None)?;
    ensure!(
        code == Some(0),
        "check of a good policy: exit code {code:?}: {said}"
    );
    Ok(())
}

fn control_bytes(env: &TestEnv) -> anyhow::Result<()> {
    // A cgroup's name may hold anything but a newline and a slash, a thread's anything but NUL.
    let cgroup = format!("pgtest-\u{1b}[31m\u{7}-{}", std::process::id());
    let mut made = Cgroups::default();
    made.make(std::slice::from_ref(&cgroup))?;
    let probe = || {
        let mut probe = Probe::user(0).in_cgroup(&cgroup).bind(Attempt::tcp(80));
        probe.comm = b"a\x1b[2J\nb\r\xff".to_vec();
        probe
    };
    for output in ["json", "text"] {
        let instance = Instance::start_with(env, "{ version: 1, default: deny }", "auto", output)?;
        probe().run()?;
        let lines = instance.lines_until_now()?;
        ensure!(
            lines
                .iter()
                .any(|line| line.contains("80") && line.contains("pgtest-")),
            "no line for it: {lines:?}"
        );
        for line in &lines {
            ensure!(
                !line.chars().any(char::is_control),
                "a control character in {line:?}"
            );
            ensure!(
                output == "text" || serde_json::from_str::<serde_json::Value>(line).is_ok(),
                "no JSON: {line:?}"
            );
        }
        instance.stop()?;
    }
    let policy =
        "{ version: 1, default: deny, rules: [{ name: tls, action: allow, ports: [443] }] }";
    let instance = Instance::start(env, policy)?;
    let bind = |port| Probe::user(0).in_cgroup(&cgroup).bind(Attempt::tcp(port));
    judged(env, &instance, &bind(80), default("deny"))?;
    judged(env, &instance, &bind(443), allow("tls"))?;
    Ok(())
}
