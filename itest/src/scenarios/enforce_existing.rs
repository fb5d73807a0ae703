//! `portguard inventory --enforce-existing`: sockets that it closes, and those that it cannot.

use super::inventory::{USER, at, bound, expect_fields, inventory, policy, port, tcp, udp, unit};
use crate::harness::Table;
use crate::harness::probe::{Attempt, Probe, inet6};
use crate::harness::socket_holder::Hold;
use crate::harness::{Needs, NotApplicable, TestEnv};
use anyhow::ensure;
use serde_json::{Value, json};
use std::net::Ipv6Addr;

pub(super) const TESTS: Table = &[
    ("enforce_existing_idle", Needs::Nothing, idle),
    ("enforce_existing_closed", Needs::Nothing, closed),
    ("enforce_existing_udp", Needs::Nothing, udp_keeps_port),
];

/// A TCP socket that is bound and does not listen, which the kernel lists since 6.8.
fn idle(env: &TestEnv) -> anyhow::Result<()> {
    let hold = Hold {
        idle: true,
        ..Hold::of(Probe::user(USER).bind(tcp(0)))
    };
    let held = hold.start()?;
    bound(&held)?;
    let rules = "default: deny\n";
    let (_, objects, stderr) = inventory(&policy(rules), &["--enforce-existing"])?;
    if env.kernel < (6, 8) && objects.is_empty() {
        return Err(
            NotApplicable("the kernel does not list such sockets (Linux 6.8)".into()).into(),
        );
    }
    let object = at(&objects, 0)?;
    expect_fields(
        object,
        json!({ "state": "bound", "violation": true, "closed": false }),
    )?;
    ensure!(
        stderr.contains("it is bound but does not listen")
            || stderr.contains("lacks SOCK_DESTROY support"),
        "{stderr}"
    );
    Ok(())
}

/// Only denied sockets are closed: not allowed ones on the same port, and none in audit mode.
fn closed(_: &TestEnv) -> anyhow::Result<()> {
    let (unit, _cgroups) = unit("service")?;
    let v6 = inet6(Ipv6Addr::LOCALHOST, port(1));
    let v6 = Attempt::new(libc::AF_INET6, libc::SOCK_STREAM, 0, v6);
    let denied = Probe::user(USER).bind(tcp(0)).bind(v6).bind(tcp(2));
    let mut denied = Hold::of(denied).start()?;
    // The same user, so that both can bind the ports.
    let allowed = Probe::user(USER).in_cgroup(&unit).bind(tcp(0)).bind(tcp(2));
    let mut allowed = Hold::of(allowed).start()?;
    bound(&denied)?;
    bound(&allowed)?;
    let rules = format!(
        "rules:\n  - {{ name: unit, action: allow, units: [{unit}] }}\n  \
         - {{ name: maybe, action: deny, ports: [{}], mode: audit }}\n  \
         - {{ name: no, action: deny }}\n",
        port(2)
    );
    let audit = policy(&rules) + "mode: audit\n";
    let (code, objects, stderr) = inventory(&audit, &["--enforce-existing"])?;
    ensure!(code == Some(1), "mode audit, {code:?}: {stderr}");
    ensure!(stderr.contains("audit mode; nothing is closed"), "{stderr}");
    let closed =
        |object: &Value| object["closed"] == json!(null) && object["enforced"] == json!(false);
    ensure!(objects.iter().all(closed), "{objects:?}");
    ensure!(denied.errnos()? == [libc::EAGAIN; 3], "audit closed one");

    let (code, objects, stderr) = inventory(&policy(&rules), &["--enforce-existing"])?;
    unsupported(&stderr)?;
    ensure!(code == Some(0), "{code:?}: {stderr} {objects:?}");
    ensure!(stderr.contains("no longer accepts connections"), "{stderr}");
    let closed = objects
        .iter()
        .filter(|object| object["closed"] == json!(true));
    ensure!(closed.count() == 2, "{objects:?}");
    let errnos = denied.errnos()?;
    let expected = [libc::EINVAL, libc::EINVAL, libc::EAGAIN];
    ensure!(
        errnos == expected,
        "accept(2): {errnos:?}, not {expected:?}"
    );
    let errnos = allowed.errnos()?;
    ensure!(
        errnos == [libc::EAGAIN; 2],
        "allowed: accept(2): {errnos:?}"
    );
    Ok(())
}

/// A bound UDP socket is aborted but keeps its port, which is reported as a failure.
fn udp_keeps_port(_: &TestEnv) -> anyhow::Result<()> {
    let mut held = Hold::of(Probe::user(USER).bind(udp(0, 0))).start()?;
    bound(&held)?;
    let (code, objects, stderr) = inventory(&policy("default: deny\n"), &["--enforce-existing"])?;
    unsupported(&stderr)?;
    ensure!(code == Some(1), "{code:?}: {stderr}");
    ensure!(
        stderr.contains("keeps its port: stop the program"),
        "{stderr}"
    );
    expect_fields(at(&objects, 0)?, json!({ "closed": false }))?;
    let errnos = held.errnos()?;
    ensure!(errnos == [libc::ECONNABORTED], "recv(2): {errnos:?}");
    drop(held);
    // A program that ends for that reason frees the port.
    let hold = Hold {
        brittle: true,
        ..Hold::of(Probe::user(USER).bind(udp(0, 0)))
    };
    let _held = hold.start()?;
    let (code, objects, stderr) = inventory(&policy("default: deny\n"), &["--enforce-existing"])?;
    let aborted = stderr.contains("which keeps its port");
    ensure!(aborted || stderr.contains("closed udp/"), "{stderr}");
    // On an emulated machine it may not have ended yet.
    ensure!(code == Some(i32::from(aborted)), "{code:?}: {stderr}");
    expect_fields(at(&objects, 0)?, json!({ "closed": !aborted }))
}

/// Not applicable if the kernel lacks `SOCK_DESTROY`, which must be reported.
fn unsupported(stderr: &str) -> anyhow::Result<()> {
    if stderr.contains("kernel lacks SOCK_DESTROY support") {
        ensure!(stderr.contains("stop the program"), "no fix: {stderr}");
        let why = "SOCK_DESTROY: EOPNOTSUPP (no CONFIG_INET_DIAG_DESTROY)";
        return Err(NotApplicable(why.into()).into());
    }
    Ok(())
}
