//! Verdicts: grants, denials, the kernel's own rule, audit mode, two uids, cgroups, what is protected.

use super::Table;
use super::checks::{allow, answer, by_kernel, default, deny, judged, kernel, unjudged};
use crate::harness::bind_runner::Cgroups;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, TestEnv};
use anyhow::ensure;

pub(super) const TESTS: Table = &[
    ("grant", Needs::Nothing, grant),
    ("denial_of_root", Needs::Nothing, denial_of_root),
    ("kernel_for_both", Needs::Nothing, kernel_for_both),
    ("default_deny", Needs::Nothing, default_deny),
    (
        "audit_changes_nothing",
        Needs::Nothing,
        audit_changes_nothing,
    ),
    (
        "both_uids_for_a_grant",
        Needs::Nothing,
        both_uids_for_a_grant,
    ),
    ("first_match_wins", Needs::Nothing, first_match_wins),
    ("cgroup_and_all_below", Needs::Nothing, cgroup_and_all_below),
    ("outside_protect", Needs::Nothing, outside_protect),
    ("protect_above_1023", Needs::Nothing, protect_above_1023),
    (
        "port_byte_order_and_edges",
        Needs::Nothing,
        port_byte_order_and_edges,
    ),
];

/// uid 33 may have 80, root may not have 81, everything else is the kernel's.
pub(super) const POLICY: &str = "
version: 1
default: kernel
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81], users: [0] }
";

fn grant(env: &TestEnv) -> anyhow::Result<()> {
    for hook in env.hooks() {
        let web = Probe::user(33).bind(Attempt::tcp(80));
        ensure!(
            answer(&web)? == libc::EACCES,
            "uid 33 may bind 80 before portguard runs"
        );
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        let event = judged(env, &instance, &web, allow("web"))?;
        ensure!(
            event["protocol"] == "tcp"
                && event["family"] == "inet"
                && event["address"] == "127.0.0.1",
            "{event}"
        );
        judged(
            env,
            &instance,
            &Probe::user(1000).bind(Attempt::tcp(80)),
            default("kernel"),
        )?;
        instance.stop()?;
        ensure!(
            answer(&web)? == libc::EACCES,
            "uid 33 may bind 80 after portguard has ended"
        );
    }
    Ok(())
}

fn denial_of_root(env: &TestEnv) -> anyhow::Result<()> {
    for hook in env.hooks() {
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        judged(
            env,
            &instance,
            &Probe::user(0).bind(Attempt::tcp(81)),
            deny("no-root"),
        )?;
        judged(
            env,
            &instance,
            &Probe::user(0).bind(Attempt::tcp(82)),
            default("kernel"),
        )?;
        instance.stop()?;
        ensure!(
            answer(&Probe::user(0).bind(Attempt::tcp(81)))? == 0,
            "a denial outlives portguard"
        );
    }
    Ok(())
}

fn kernel_for_both(env: &TestEnv) -> anyhow::Result<()> {
    let policy =
        "{ version: 1, default: deny, rules: [{ name: own, action: kernel, ports: [83] }] }";
    let instance = Instance::start(env, policy)?;
    judged(
        env,
        &instance,
        &Probe::user(0).bind(Attempt::tcp(83)),
        kernel("own"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(1000).bind(Attempt::tcp(83)),
        kernel("own"),
    )?;
    Ok(())
}

fn default_deny(env: &TestEnv) -> anyhow::Result<()> {
    let policy =
        "{ version: 1, default: deny, rules: [{ name: web, action: allow, ports: [80] }] }";
    let instance = Instance::start(env, policy)?;
    for uid in [0, 1000] {
        judged(
            env,
            &instance,
            &Probe::user(uid).bind(Attempt::tcp(84)),
            default("deny"),
        )?;
        judged(
            env,
            &instance,
            &Probe::user(uid).bind(Attempt::udp(84)),
            default("deny"),
        )?;
        judged(
            env,
            &instance,
            &Probe::user(uid).bind(Attempt::tcp(80)),
            allow("web"),
        )?;
    }
    Ok(())
}

fn audit_changes_nothing(env: &TestEnv) -> anyhow::Result<()> {
    let policy = format!("{POLICY}mode: audit\n");
    for hook in env.hooks() {
        let instance = Instance::start_with(env, &policy, hook, "json")?;
        judged(
            env,
            &instance,
            &Probe::user(33).bind(Attempt::tcp(80)),
            allow("web").in_audit(),
        )?;
        judged(
            env,
            &instance,
            &Probe::user(0).bind(Attempt::tcp(81)),
            deny("no-root").in_audit(),
        )?;
        judged(
            env,
            &instance,
            &Probe::user(0).bind(Attempt::tcp(80)),
            default("kernel").in_audit(),
        )?;
    }
    Ok(())
}

fn both_uids_for_a_grant(env: &TestEnv) -> anyhow::Result<()> {
    let policy = "
version: 1
rules:
  - { name: granted, action: allow, ports: [85], users: [33] }
  - { name: refused, action: deny, ports: [86], users: [33] }
";
    let instance = Instance::start(env, policy)?;
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
        judged(env, &instance, &probe(85), granted)?;
        judged(env, &instance, &probe(86), refused)?;
    }
    Ok(())
}

fn first_match_wins(env: &TestEnv) -> anyhow::Result<()> {
    let policy = r#"
version: 1
rules:
  - { name: one, action: allow, ports: [87], users: [1000] }
  - { name: many, action: deny, ports: ["80-90"], users: ["1000-1999"] }
  - { name: all, action: allow, ports: ["80-100"], protocols: [tcp] }
"#;
    let instance = Instance::start(env, policy)?;
    judged(
        env,
        &instance,
        &Probe::user(1000).bind(Attempt::tcp(87)),
        allow("one"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(1001).bind(Attempt::tcp(87)),
        deny("many"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(1000).bind(Attempt::udp(88)),
        deny("many"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(2000).bind(Attempt::tcp(88)),
        allow("all"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(2000).bind(Attempt::udp(88)),
        default("kernel"),
    )?;
    Ok(())
}

fn cgroup_and_all_below(env: &TestEnv) -> anyhow::Result<()> {
    let top = format!("pgtest-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
            {{ name: below, action: allow, ports: [89], cgroups: [\"/{top}/a\"] }},
            {{ name: not, action: deny, ports: [89], cgroups: [\"/{top}\"] }}] }}"
    );
    let instance = Instance::start(env, &policy)?;
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
        let event = judged(env, &instance, &probe, verdict)?;
        let shown = format!("/{}", full.join("/"));
        ensure!(
            outside || event["cgroup"] == shown.as_str(),
            "cgroup is not {shown}: {event}"
        );
    }
    Ok(())
}

fn outside_protect(env: &TestEnv) -> anyhow::Result<()> {
    let policy = r#"
version: 1
default: deny
protect: ["80-89", 999]
"#;
    let instance = Instance::start(env, policy)?;
    judged(
        env,
        &instance,
        &Probe::user(0).bind(Attempt::tcp(80)),
        default("deny"),
    )?;
    for port in [79, 90, 443, 20_480, 8080] {
        let probe = Probe::user(0).bind(Attempt::tcp(port));
        unjudged(&instance, &probe, 0)?;
        let probe = Probe::user(1000).bind(Attempt::tcp(port));
        unjudged(&instance, &probe, by_kernel(&probe, port))?;
    }
    Ok(())
}

fn protect_above_1023(env: &TestEnv) -> anyhow::Result<()> {
    let policy = r#"
version: 1
protect: [999, "5432-5433"]
rules:
  - { name: db, action: allow, ports: [5432], users: [1000] }
  - { name: not-you, action: deny, ports: [5432] }
"#;
    let instance = Instance::start(env, policy)?;
    judged(
        env,
        &instance,
        &Probe::user(1000).bind(Attempt::tcp(5432)),
        allow("db"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(1001).bind(Attempt::tcp(5432)),
        deny("not-you"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(0).bind(Attempt::tcp(5432)),
        deny("not-you"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(1001).bind(Attempt::tcp(5433)),
        default("kernel"),
    )?;
    Ok(())
}

fn port_byte_order_and_edges(env: &TestEnv) -> anyhow::Result<()> {
    let policy = r#"
version: 1
default: kernel
protect: ["1-1024", 65535]
rules:
  - { name: http, action: allow, ports: [80], users: [1000] }
  - { name: edges, action: deny, ports: [1, 1023, 1024, 65535] }
"#;
    let instance = Instance::start(env, policy)?;
    let user = |port| Probe::user(1000).bind(Attempt::tcp(port));
    let root = |port| Probe::user(0).bind(Attempt::tcp(port));
    judged(env, &instance, &user(80), allow("http"))?;
    // 80 with its bytes exchanged.
    unjudged(&instance, &user(20_480), 0)?;
    for port in [1, 1023, 1024, 65_535] {
        judged(env, &instance, &user(port), deny("edges"))?;
        judged(env, &instance, &root(port), deny("edges"))?;
    }
    for port in [0, 1025, 65_534] {
        unjudged(&instance, &user(port), 0)?;
        unjudged(&instance, &root(port), 0)?;
    }
    judged(env, &instance, &user(1022), default("kernel"))?;
    judged(env, &instance, &root(1022), default("kernel"))?;
    Ok(())
}
