//! `portguard inventory`: the sockets that hold protected ports, and the verdict of the policy on each.

use crate::harness::Table;
use crate::harness::cgroups::{Cgroups, cgroup_root};
use crate::harness::instance::{policy_file, program};
use crate::harness::probe::{Attempt, BindResult, Netns, Probe, inet, inet6};
use crate::harness::socket_holder::{Held, Hold};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

pub(super) const TESTS: Table = &[
    ("inventory_lists_sockets", Needs::Nothing, lists_sockets),
    ("inventory_scope", Needs::Nothing, scope),
    ("inventory_passed_sockets", Needs::Nothing, passed_sockets),
    ("inventory_without_rights", Needs::Nothing, without_rights),
];

pub(super) const USER: u32 = 1000;
/// An address of the loopback network for these tests.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);

/// Ports that no parallel run on this machine uses, below the ports that the kernel assigns.
pub(super) fn port(offset: u16) -> u16 {
    let slot = u16::try_from(std::process::id() % 700).unwrap_or(0);
    20_000 + slot * 16 + offset
}

pub(super) fn tcp(offset: u16) -> Attempt {
    Attempt::tcp_at(ADDRESS, port(offset))
}

pub(super) fn udp(offset: u16, protocol: i32) -> Attempt {
    let address = inet(libc::AF_INET, ADDRESS, port(offset));
    Attempt::new(libc::AF_INET, libc::SOCK_DGRAM, protocol, address)
}

/// A cgroup with the name of a unit of this test.
pub(super) fn unit(kind: &str) -> anyhow::Result<(String, Cgroups)> {
    let name = format!("pgtest-{}.{kind}", std::process::id());
    let mut cgroups = Cgroups::default();
    cgroups.make(std::slice::from_ref(&name))?;
    Ok((name, cgroups))
}

/// A policy that protects only the ports of these tests.
pub(super) fn policy(rules: &str) -> String {
    format!(
        "version: 1\nprotect: [\"{}-{}\"]\n{rules}",
        port(0),
        port(15)
    )
}

/// `portguard inventory --json`: exit code, objects, stderr.
pub(super) fn inventory(
    policy: &str,
    more: &[&str],
) -> anyhow::Result<(Option<i32>, Vec<Value>, String)> {
    let file = policy_file(policy)?;
    let output = Command::new(program())
        .args(["inventory", "--json", "--policy"])
        .arg(file.path())
        .args(more)
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let objects = lines.lines().map(serde_json::from_str);
    let objects = objects.collect::<Result<_, _>>().context(lines.clone())?;
    Ok((output.status.code(), objects, stderr))
}

pub(super) fn at(objects: &[Value], offset: u16) -> anyhow::Result<&Value> {
    let mut objects = objects.iter();
    let found = objects.find(|object| object["port"] == port(offset));
    found.with_context(|| format!("no socket on port {}", port(offset)))
}

pub(super) fn expect_fields(object: &Value, expected: Value) -> anyhow::Result<()> {
    for (key, value) in expected.as_object().into_iter().flatten() {
        ensure!(object[key] == *value, "{key} is not {value}: {object}");
    }
    Ok(())
}

pub(super) fn bound(held: &Held) -> anyhow::Result<()> {
    let bound = held
        .results
        .iter()
        .all(|result| *result == BindResult::Bound(0));
    ensure!(bound, "{:?}", held.results);
    Ok(())
}

fn of_every_kind(unit: &str) -> Probe {
    let v6 =
        |kind, address, offset| Attempt::new(libc::AF_INET6, kind, 0, inet6(address, port(offset)));
    let mptcp = inet(libc::AF_INET, ADDRESS, port(6));
    let sctp = inet(libc::AF_INET, ADDRESS, port(7));
    Probe::user(USER)
        .in_cgroup(unit)
        .bind(tcp(0))
        .bind(udp(1, 0))
        .bind(v6(libc::SOCK_STREAM, Ipv6Addr::LOCALHOST, 2))
        .bind(v6(libc::SOCK_DGRAM, Ipv6Addr::UNSPECIFIED, 3))
        .bind(udp(5, 136))
        .bind(Attempt::new(libc::AF_INET, libc::SOCK_STREAM, 262, mptcp))
        .bind(Attempt::new(libc::AF_INET, libc::SOCK_STREAM, 132, sctp))
}

/// Every protocol and family is listed, with uid, unit, program and verdict.
fn lists_sockets(_: &TestEnv) -> anyhow::Result<()> {
    let (unit, _cgroups) = unit("service")?;
    let probe = of_every_kind(&unit);
    let comm = String::from_utf8_lossy(&probe.comm).into_owned();
    let held = Hold::of(probe).start()?;
    let rules = format!(
        "rules:\n  - {{ name: unit, action: allow, protocols: [tcp], units: [{unit}] }}\n  \
         - {{ name: no, action: deny, users: [{USER}] }}\n"
    );
    let (code, objects, stderr) = inventory(&policy(&rules), &[])?;
    ensure!(code == Some(1), "exit code {code:?}: {stderr}");
    let sockets = [
        (0, "tcp", "inet", "127.77.0.2", json!(null), "listen"),
        (1, "udp", "inet", "127.77.0.2", json!(null), "bound"),
        // A socket with an IPv6 address other than `::` is IPv6-only.
        (2, "tcp", "inet6", "::1", json!(false), "listen"),
        (3, "udp", "inet6", "::", json!(true), "bound"),
        (5, "udp", "inet", "127.77.0.2", json!(null), "bound"),
        (6, "tcp", "inet", "127.77.0.2", json!(null), "listen"),
        (7, "sctp", "inet", "127.77.0.2", json!(null), "listen"),
    ];
    for (result, expected) in held.results.iter().zip(sockets) {
        let (offset, protocol, family, address, dual_stack, state) = expected;
        // Not every kernel has UDP-Lite, MPTCP and SCTP.
        if offset > 3 && matches!(result, BindResult::NoSocket(_)) {
            continue;
        }
        ensure!(*result == BindResult::Bound(0), "{protocol}: {result:?}");
        let allowed = protocol == "tcp";
        let object = at(&objects, offset)?;
        expect_fields(
            object,
            json!({
                "protocol": protocol, "family": family, "address": address, "dual_stack": dual_stack,
                "state": state, "uid": USER, "by": "process", "unit": unit, "host_netns": true,
                "made_in": format!("/{unit}"), "enforced": true, "violation": !allowed, "closed": null,
                "verdict": if allowed { "allow" } else { "deny" },
                "rule": if allowed { "unit" } else { "no" },
            }),
        )?;
        let process = &object["processes"][0];
        expect_fields(
            process,
            json!({ "pid": held.pid(), "comm": comm, "uid": USER, "euid": USER, "unit": unit,
                "cgroup": format!("/{unit}") }),
        )?;
        let exe = std::fs::read_link("/proc/self/exe")?;
        ensure!(process["exe"] == json!(exe), "not {exe:?}: {process}");
    }
    text(&policy(&rules), &unit)?;
    let (code, _, stderr) = inventory(&policy("rules: []\n"), &[])?;
    ensure!(code == Some(0), "nothing is denied: {code:?}: {stderr}");
    Ok(())
}

/// The line of the table for a port, and the table.
pub(super) fn table_line(policy: &str, port: &str) -> anyhow::Result<(String, String)> {
    let file = policy_file(policy)?;
    let output = Command::new(program())
        .args(["inventory", "--policy"])
        .arg(file.path())
        .output()?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = table.lines().find(|text| text.starts_with(port));
    let line = line.with_context(|| table.clone())?;
    Ok((line.to_owned(), table))
}

/// The table has the same content.
fn text(policy: &str, unit: &str) -> anyhow::Result<()> {
    let (line, table) = table_line(policy, &format!("udp/{}", port(1)))?;
    let columns: Vec<&str> = line.split_whitespace().collect();
    ensure!(columns.contains(&unit), "no unit: {table}");
    ensure!(line.contains("1000") && line.contains("deny"), "{table}");
    ensure!(columns.last() == Some(&"no"), "no rule: {table}");
    ensure!(!table.contains("NETNS"), "all is the host's: {table}");
    Ok(())
}

/// Sockets in other network namespaces are listed only with `scope: all`.
fn scope(_: &TestEnv) -> anyhow::Result<()> {
    let any = Ipv4Addr::UNSPECIFIED;
    let probe = Probe::user(USER).in_netns(Netns::New);
    let held = Hold::of(probe.bind(Attempt::tcp_at(any, port(0)))).start()?;
    bound(&held)?;
    let (code, objects, stderr) = inventory(&policy("default: deny\n"), &[])?;
    ensure!(
        code == Some(0) && objects.is_empty(),
        "scope host, {code:?}: {objects:?} {stderr}"
    );
    let (code, objects, stderr) = inventory(&policy("default: deny\nscope: all\n"), &[])?;
    ensure!(code == Some(1), "scope all, {code:?}: {stderr}");
    // A sandbox may hide processes even from root, which is reported.
    let hidden = "processes; their sockets are not listed";
    ensure!(stderr.is_empty() || stderr.contains(hidden), "{stderr}");
    let netns = std::fs::read_link(format!("/proc/{}/ns/net", held.pid()))?;
    let netns = netns.display().to_string();
    let number = netns.trim_matches(|char: char| !char.is_ascii_digit());
    expect_fields(
        at(&objects, 0)?,
        json!({ "host_netns": false, "netns": number.parse::<u32>()?, "violation": true, "rule": null }),
    )
}

/// A socket that systemd passed to a service is evaluated in the cgroup of its socket unit and in the service's.
fn passed_sockets(_: &TestEnv) -> anyhow::Result<()> {
    let (unit, _cgroups) = unit("socket")?;
    let (service, _service) = self::unit("service")?;
    let held = Hold::of(Probe::user(USER).in_cgroup(&unit).bind(tcp(0))).start()?;
    bound(&held)?;
    let procs = cgroup_root()?.join(&service).join("cgroup.procs");
    std::fs::write(procs, held.pid().to_string())?;
    let rules = |unit: &str| {
        policy(&format!(
            "default: deny\nrules: [{{ name: web, action: allow, units: [{unit}] }}]\n"
        ))
    };
    for allowed in [&unit, &service] {
        let (code, objects, stderr) = inventory(&rules(allowed), &[])?;
        ensure!(code == Some(0), "{allowed}, {code:?}: {objects:?} {stderr}");
        let object = at(&objects, 0)?;
        expect_fields(
            object,
            json!({ "verdict": "allow", "rule": "web", "unit": service }),
        )?;
        expect_fields(
            &object["caller"],
            json!({ "uid": USER, "cgroup": format!("/{allowed}") }),
        )?;
    }
    let (code, objects, _) = inventory(&rules("other.service"), &[])?;
    ensure!(code == Some(1), "neither is allowed: {objects:?}");
    expect_fields(
        &at(&objects, 0)?["caller"],
        json!({ "cgroup": format!("/{service}") }),
    )
}

/// A user without the rights to see the holders gets an error instead of a wrong list.
fn without_rights(_: &TestEnv) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let held = Hold::of(Probe::user(USER).bind(tcp(0))).start()?;
    bound(&held)?;
    for (more, expected) in [
        ("", "cannot see which process holds tcp/"),
        ("scope: all\n", "cannot "),
    ] {
        let file = policy_file(&policy(&format!("default: deny\n{more}")))?;
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
        let output = Command::new(program())
            .args(["inventory", "--policy"])
            .arg(file.path())
            .uid(USER + 1)
            .gid(USER + 1)
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        ensure!(code == Some(3), "{code:?}: {stderr}");
        ensure!(stderr.contains(expected), "{stderr}");
        ensure!(stderr.contains("run as root, or with CAP_"), "{stderr}");
    }
    Ok(())
}
