//! Decisions: verdicts, default, audit mode, uids, cgroups, protected ports.

use super::checks::{allow, default, deny, errno_of, expect_decision, expect_no_decision, kernel};
use crate::harness::cgroups::Cgroups;
use crate::harness::env::by_kernel;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Kind, Needs, SharedInstance, SharedTable, Table, TestEnv};
use anyhow::ensure;

pub(super) const TESTS: Table = &[(
    "hooks_decide_and_release",
    Needs::Nothing,
    hooks_decide_and_release,
)];

pub(super) const SHARED: SharedTable = &[
    ("kernel_rule", Needs::Nothing, kernel_rule),
    ("default_deny", Needs::Nothing, default_deny),
    ("uids_that_differ", Needs::Nothing, uids_that_differ),
    ("rules_first_match", Needs::Nothing, rules_first_match),
    ("cgroup_and_below", Needs::Nothing, cgroup_and_below),
    (
        "ports_outside_protect",
        Needs::Nothing,
        ports_outside_protect,
    ),
    ("ports_above_1023", Needs::Nothing, ports_above_1023),
    ("ports_at_edges", Needs::Nothing, ports_at_edges),
];

/// Allows uid 33 port 80, denies root port 81.
pub(super) const POLICY: &str = "
version: 1
default: kernel
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81], users: [0] }
";

/// By every hook: grants and denials, both in audit mode, and their end with portguard.
fn hooks_decide_and_release(env: &TestEnv) -> anyhow::Result<()> {
    let web = || Probe::user(33).bind(Attempt::tcp(80));
    let root = |port| Probe::user(0).bind(Attempt::tcp(port));
    for hook in env.hooks() {
        let before = errno_of(&web())?;
        ensure!(before == libc::EACCES, "uid 33 may bind 80 already");
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        if *hook == "auto" {
            expect_auto_is_reported(env, &instance.stderr)?;
        }
        let event = expect_decision(env, &instance, &web(), allow("web"))?;
        ensure!(
            event["protocol"] == "tcp"
                && event["family"] == "inet"
                && event["address"] == "127.0.0.1",
            "{event}"
        );
        let other = Probe::user(1000).bind(Attempt::tcp(80));
        expect_decision(env, &instance, &other, default("kernel"))?;
        expect_decision(env, &instance, &root(81), deny("no-root"))?;
        expect_decision(env, &instance, &root(82), default("kernel"))?;
        instance.reload(&format!("{POLICY}mode: audit\n"))?;
        expect_decision(env, &instance, &web(), allow("web").in_audit())?;
        let event = expect_decision(env, &instance, &root(81), deny("no-root").in_audit())?;
        ensure!(event["mode"] == "audit_policy", "{event}");
        expect_decision(env, &instance, &root(80), default("kernel").in_audit())?;
        instance.reload(
            "{ version: 1, rules: [{ name: maybe, action: deny, ports: [81], mode: audit }] }",
        )?;
        let event = expect_decision(env, &instance, &root(81), deny("maybe").in_audit())?;
        ensure!(event["mode"] == "audit_rule", "{event}");
        instance.reload(POLICY)?;
        expect_decision(env, &instance, &root(81), deny("no-root"))?;
        instance.stop()?;
        let after = (errno_of(&web())?, errno_of(&root(81))?);
        ensure!(
            after == (libc::EACCES, 0),
            "{hook}: grants or denials outlive portguard: {after:?}"
        );
    }
    Ok(())
}

/// The hook that `--hook auto` chose is named, and what it cannot do.
fn expect_auto_is_reported(env: &TestEnv, stderr: &str) -> anyhow::Result<()> {
    ensure!(
        stderr.contains(&format!("hook {}", env.auto_hook())),
        "no hook named: {stderr}"
    );
    if env.auto_hook() == "cgroup" {
        ensure!(
            stderr.contains("LSM") && stderr.contains("SCTP"),
            "no limits named: {stderr}"
        );
    }
    if env.kind == Kind::GuestWithoutLsm {
        ensure!(stderr.contains("bpf"), "no cause named: {stderr}");
    }
    Ok(())
}

fn kernel_rule(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy =
        "{ version: 1, default: deny, rules: [{ name: own, action: kernel, ports: [83] }] }";
    let instance = shared.enforce(env, policy)?;
    expect_decision(
        env,
        instance,
        &Probe::user(0).bind(Attempt::tcp(83)),
        kernel("own"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(Attempt::tcp(83)),
        kernel("own"),
    )?;
    Ok(())
}

fn default_deny(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy =
        "{ version: 1, default: deny, rules: [{ name: web, action: allow, ports: [80] }] }";
    let instance = shared.enforce(env, policy)?;
    for uid in [0, 1000] {
        expect_decision(
            env,
            instance,
            &Probe::user(uid).bind(Attempt::tcp(84)),
            default("deny"),
        )?;
        expect_decision(
            env,
            instance,
            &Probe::user(uid).bind(Attempt::udp(84)),
            default("deny"),
        )?;
        expect_decision(
            env,
            instance,
            &Probe::user(uid).bind(Attempt::tcp(80)),
            allow("web"),
        )?;
    }
    Ok(())
}

fn uids_that_differ(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy = "
version: 1
rules:
  - { name: granted, action: allow, ports: [85], users: [33] }
  - { name: refused, action: deny, ports: [86], users: [33] }
";
    let instance = shared.enforce(env, policy)?;
    let cases = [
        ((33, 33), allow("granted"), deny("refused")),
        ((33, 1000), default("kernel"), deny("refused")),
        ((1000, 33), default("kernel"), deny("refused")),
        ((33, 0), default("kernel"), deny("refused")),
        ((0, 33), default("kernel"), deny("refused")),
        ((1000, 1000), default("kernel"), default("kernel")),
        ((0, 0), default("kernel"), default("kernel")),
    ];
    for ((real, effective), granted, refused) in cases {
        let probe = |port| {
            Probe::user(real)
                .uids(real, effective)
                .bind(Attempt::tcp(port))
        };
        expect_decision(env, instance, &probe(85), granted)?;
        expect_decision(env, instance, &probe(86), refused)?;
    }
    Ok(())
}

fn rules_first_match(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy = r#"
version: 1
rules:
  - { name: one, action: allow, ports: [87], users: [1000] }
  - { name: many, action: deny, ports: ["80-90"], users: ["1000-1999"] }
  - { name: all, action: allow, ports: ["80-100"], protocols: [tcp] }
"#;
    let instance = shared.enforce(env, policy)?;
    expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(Attempt::tcp(87)),
        allow("one"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(1001).bind(Attempt::tcp(87)),
        deny("many"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(Attempt::udp(88)),
        deny("many"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(2000).bind(Attempt::tcp(88)),
        allow("all"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(2000).bind(Attempt::udp(88)),
        default("kernel"),
    )?;
    Ok(())
}

fn cgroup_and_below(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let top = format!("pgtest-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: below, action: allow, ports: [89], cgroups: [\"/{top}/a\"] }},
            {{ name: not, action: deny, ports: [89], cgroups: [\"/{top}\"] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let mut made = Cgroups::default();
    for (path, verdict) in [
        (vec![], default("kernel")),
        (vec!["a"], allow("below")),
        (vec!["ab"], deny("not")),
        (vec!["a", "b"], allow("below")),
        (vec!["a", "b", "c"], allow("below")),
        (vec!["b", "a"], deny("not")),
        (vec!["A"], deny("not")),
    ] {
        let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
        let mut full = vec![top.clone()];
        full.extend(path);
        let outside = full.len() == 1;
        made.make(&full)?;
        let probe = Probe::user(1000).bind(Attempt::tcp(89));
        let probe = if outside {
            probe
        } else {
            probe.in_cgroup(full.join("/"))
        };
        let event = expect_decision(env, instance, &probe, verdict)?;
        let path = format!("/{}", full.join("/"));
        ensure!(
            outside || event["cgroup"] == path.as_str(),
            "cgroup is not {path}: {event}"
        );
    }
    Ok(())
}

fn ports_outside_protect(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy = r#"
version: 1
default: deny
protect: ["80-89", 999]
"#;
    let instance = shared.enforce(env, policy)?;
    expect_decision(
        env,
        instance,
        &Probe::user(0).bind(Attempt::tcp(80)),
        default("deny"),
    )?;
    for port in [79, 90, 443, 20_480, 8080] {
        let probe = Probe::user(0).bind(Attempt::tcp(port));
        expect_no_decision(instance, &probe, 0)?;
        let probe = Probe::user(1000).bind(Attempt::tcp(port));
        expect_no_decision(instance, &probe, by_kernel(1000, port))?;
    }
    Ok(())
}

fn ports_above_1023(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy = r#"
version: 1
protect: [999, "5432-5433"]
rules:
  - { name: db, action: allow, ports: [5432], users: [1000] }
  - { name: not-you, action: deny, ports: [5432] }
"#;
    let instance = shared.enforce(env, policy)?;
    expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(Attempt::tcp(5432)),
        allow("db"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(1001).bind(Attempt::tcp(5432)),
        deny("not-you"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(0).bind(Attempt::tcp(5432)),
        deny("not-you"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(1001).bind(Attempt::tcp(5433)),
        default("kernel"),
    )?;
    Ok(())
}

fn ports_at_edges(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy = r#"
version: 1
default: kernel
protect: ["1-1024", 65535]
rules:
  - { name: http, action: allow, ports: [80], users: [1000] }
  - { name: edges, action: deny, ports: [1, 1023, 1024, 65535] }
"#;
    let instance = shared.enforce(env, policy)?;
    let user = |port| Probe::user(1000).bind(Attempt::tcp(port));
    let root = |port| Probe::user(0).bind(Attempt::tcp(port));
    expect_decision(env, instance, &user(80), allow("http"))?;
    // 80 with its bytes swapped.
    expect_no_decision(instance, &user(20_480), 0)?;
    for port in [1, 1023, 1024, 65_535] {
        expect_decision(env, instance, &user(port), deny("edges"))?;
        expect_decision(env, instance, &root(port), deny("edges"))?;
    }
    for port in [0, 1025, 65_534] {
        expect_no_decision(instance, &user(port), 0)?;
        expect_no_decision(instance, &root(port), 0)?;
    }
    expect_decision(env, instance, &user(1022), default("kernel"))?;
    expect_decision(env, instance, &root(1022), default("kernel"))?;
    Ok(())
}
