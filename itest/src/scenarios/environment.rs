//! The command line and the environment: exit codes, messages, control characters.

use super::checks::{allow, default, expect_decision};
use super::decisions::POLICY;
use crate::harness::active_lsms;
use crate::harness::cgroups::Cgroups;
use crate::harness::events::parse;
use crate::harness::instance::{Instance, policy_file, program};
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, SharedInstance, SharedTable, Table, TestEnv};
use anyhow::ensure;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub(super) const TESTS: Table = &[(
    "hook_lsm_needs_bpf_in_lsm",
    Needs::NoLsm,
    hook_lsm_needs_bpf_in_lsm,
)];

/// Of messages and exit codes.
pub(super) const MESSAGES: Table = &[
    ("run_unprivileged", Needs::Nothing, run_unprivileged),
    ("exit_codes", Needs::Nothing, exit_codes),
    (
        "policy_broken_at_start",
        Needs::Nothing,
        policy_broken_at_start,
    ),
    (
        "control_characters_in_text",
        Needs::Nothing,
        control_characters_in_text,
    ),
];

pub(super) const SHARED: SharedTable = &[(
    "control_characters_in_json",
    Needs::Nothing,
    control_characters_in_json,
)];

/// Runs portguard to its end: exit code, and stderr with stdout.
fn ended(arguments: &[&str], uid: Option<u32>) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = Command::new(program());
    command.args(arguments);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let output = command.output()?;
    let text = [output.stderr, output.stdout].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

fn hook_lsm_needs_bpf_in_lsm(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file(POLICY)?;
    let path = policy.path().display().to_string();
    let (code, output) = ended(&["run", "--hook", "lsm", "--policy", &path], None)?;
    ensure!(code == Some(3), "exit code {code:?}: {output}");
    let parameter = output.split_whitespace().find(|word| word.contains("lsm="));
    let value = parameter
        .and_then(|word| {
            word.trim_matches(['`', '\'', '"', '.', ','])
                .split_once("lsm=")
        })
        .map(|(_, value)| value.split(',').collect::<Vec<_>>())
        .unwrap_or_default();
    // Modules that are always active are not in the parameter.
    let mut expected = active_lsms::active()?;
    expected.retain(|name| !matches!(name.as_str(), "capability" | "ima" | "evm"));
    ensure!(expected.iter().all(|name| name != "bpf"), "bpf is active");
    expected.push("bpf".into());
    ensure!(
        value == expected,
        "the boot parameter is not lsm={}: {output}",
        expected.join(",")
    );
    Ok(())
}

fn run_unprivileged(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file(POLICY)?;
    std::fs::set_permissions(
        policy.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )?;
    let path = policy.path().display().to_string();
    let (code, output) = ended(&["run", "--policy", &path], Some(1000))?;
    ensure!(code == Some(3), "exit code {code:?}: {output}");
    ensure!(
        ["CAP_NET_ADMIN", "CAP_BPF"]
            .iter()
            .all(|name| output.contains(name)),
        "no capabilities named: {output}"
    );
    let (code, output) = ended(&["doctor"], Some(1000))?;
    ensure!(
        code == Some(3) || code == Some(1),
        "doctor sees nothing wrong, exit code {code:?}: {output}"
    );
    Ok(())
}

fn exit_codes(_: &TestEnv) -> anyhow::Result<()> {
    let (code, output) = ended(&["doctor"], None)?;
    ensure!(
        code == Some(0),
        "doctor where run works: exit code {code:?}: {output}"
    );
    for arguments in [
        &["run", "--no-such-option"][..],
        &["no-such-verb"],
        &["run", "--hook", "none"],
    ] {
        let (code, output) = ended(arguments, None)?;
        ensure!(
            code == Some(2),
            "{arguments:?}: exit code {code:?}: {output}"
        );
    }
    Ok(())
}

fn policy_broken_at_start(_: &TestEnv) -> anyhow::Result<()> {
    let policy = policy_file("version: 1\nrules:\n  - { name: web, action: alow, ports: [80] }\n")?;
    let path = policy.path().display().to_string();
    for verb in [&["run", "--policy", &path][..], &["check", &path]] {
        let (code, output) = ended(verb, None)?;
        ensure!(code == Some(1), "{verb:?}: exit code {code:?}: {output}");
        ensure!(
            output.starts_with(&format!("{path}:3:26: ")),
            "{verb:?}: not {path}:3:26 first: {output}"
        );
    }
    let good = policy_file(POLICY)?;
    let (code, output) = ended(&["check", &good.path().display().to_string()], None)?;
    ensure!(
        code == Some(0),
        "check of a good policy: exit code {code:?}: {output}"
    );
    Ok(())
}

/// A process whose cgroup and name have control characters: a cgroup's name may have any byte but a newline and a
/// slash, a thread's any but NUL.
struct Hostile {
    cgroup: String,
    _cgroups: Cgroups,
}

impl Hostile {
    fn new() -> anyhow::Result<Self> {
        let cgroup = format!("pgtest-\u{1b}[31m\u{7}-{}", std::process::id());
        let mut cgroups = Cgroups::default();
        cgroups.make(std::slice::from_ref(&cgroup))?;
        Ok(Self {
            cgroup,
            _cgroups: cgroups,
        })
    }

    /// The lines of its bind have no control character in them.
    fn check(&self, instance: &Instance) -> anyhow::Result<Vec<String>> {
        let mut probe = Probe::user(0)
            .in_cgroup(&self.cgroup)
            .bind(Attempt::tcp(80));
        probe.comm = b"a\x1b[2J\nb\r\xff".to_vec();
        probe.run()?;
        let lines = instance.lines_until_now()?;
        ensure!(
            lines
                .iter()
                .any(|line| line.contains("80") && line.contains("pgtest-")),
            "no line of it: {lines:?}"
        );
        for line in &lines {
            ensure!(
                !line.chars().any(char::is_control),
                "a control character in {line:?}"
            );
        }
        Ok(lines)
    }
}

fn control_characters_in_text(env: &TestEnv) -> anyhow::Result<()> {
    let hostile = Hostile::new()?;
    let instance = Instance::start_with(env, "{ version: 1, default: deny }", "auto", "text")?;
    hostile.check(&instance)?;
    instance.stop()?;
    Ok(())
}

fn control_characters_in_json(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let hostile = Hostile::new()?;
    let policy =
        "{ version: 1, default: deny, rules: [{ name: tls, action: allow, ports: [443] }] }";
    let instance = shared.enforce(env, policy)?;
    for line in hostile.check(instance)? {
        parse(&line)?;
    }
    let bind = |port| {
        Probe::user(0)
            .in_cgroup(&hostile.cgroup)
            .bind(Attempt::tcp(port))
    };
    expect_decision(env, instance, &bind(80), default("deny"))?;
    expect_decision(env, instance, &bind(443), allow("tls"))?;
    Ok(())
}
