//! Sockets that were bound before portguard is there, and closed by `portguard inventory --enforce-existing`.

use super::Table;
use super::inventory::{USER, at, bound, inventory, policy, port, says, tcp, udp, unit};
use crate::harness::probe::{Attempt, Probe, inet6};
use crate::harness::socket_holder::Hold;
use crate::harness::{Needs, NotApplicable, TestEnv};
use anyhow::ensure;
use serde_json::{Value, json};
use std::net::Ipv6Addr;

pub(super) const TESTS: Table = &[
    ("existing_idle", Needs::Nothing, idle),
    ("existing_closed", Needs::Nothing, closed),
    ("existing_udp_keeps_its_port", Needs::Nothing, udp_stays),
];

/// A TCP socket that is bound and does not listen: shown since Linux 6.8.
fn idle(env: &TestEnv) -> anyhow::Result<()> {
    let hold = Hold {
        idle: true,
        ..Hold::of(Probe::user(USER).bind(tcp(0)))
    };
    let held = hold.start()?;
    bound(&held)?;
    let rules = "default: deny\n";
    let (_, objects, said) = inventory(&policy(rules), &["--enforce-existing"])?;
    if env.kernel < (6, 8) && objects.is_empty() {
        return Err(
            NotApplicable("the kernel does not list such sockets (Linux 6.8)".into()).into(),
        );
    }
    let object = at(&objects, 0)?;
    says(
        object,
        json!({ "state": "bound", "violation": true, "closed": false }),
    )?;
    ensure!(
        said.contains("it is bound but does not listen")
            || said.contains("lacks SOCK_DESTROY support"),
        "{said}"
    );
    Ok(())
}

/// Exactly the denied sockets are closed: not those of others on the same port, nor any in audit mode.
fn closed(_: &TestEnv) -> anyhow::Result<()> {
    let (unit, _cgroups) = unit("service")?;
    let v6 = inet6(Ipv6Addr::LOCALHOST, port(1));
    let v6 = Attempt::new(libc::AF_INET6, libc::SOCK_STREAM, 0, v6);
    let denied = Probe::user(USER).bind(tcp(0)).bind(v6).bind(tcp(2));
    let mut denied = Hold::of(denied).start()?;
    // The same user, so that they can share the ports.
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
    let (code, objects, said) = inventory(&audit, &["--enforce-existing"])?;
    ensure!(code == Some(1), "mode audit, {code:?}: {said}");
    ensure!(said.contains("audit mode: nothing is closed"), "{said}");
    let closed =
        |object: &Value| object["closed"] == json!(null) && object["enforced"] == json!(false);
    ensure!(objects.iter().all(closed), "{objects:?}");
    ensure!(denied.errnos()? == [libc::EAGAIN; 3], "audit closed one");

    let (code, objects, said) = inventory(&policy(&rules), &["--enforce-existing"])?;
    unsupported(&said)?;
    ensure!(code == Some(0), "{code:?}: {said} {objects:?}");
    ensure!(said.contains("no longer accepts connections"), "{said}");
    let closed = objects
        .iter()
        .filter(|object| object["closed"] == json!(true));
    ensure!(closed.count() == 2, "{objects:?}");
    let errnos = denied.errnos()?;
    let wanted = [libc::EINVAL, libc::EINVAL, libc::EAGAIN];
    ensure!(errnos == wanted, "accept(2): {errnos:?}, not {wanted:?}");
    let errnos = allowed.errnos()?;
    ensure!(
        errnos == [libc::EAGAIN; 2],
        "allowed: accept(2): {errnos:?}"
    );
    Ok(())
}

/// A bound UDP socket is aborted and keeps its port: that is said, and is no success.
fn udp_stays(_: &TestEnv) -> anyhow::Result<()> {
    let mut held = Hold::of(Probe::user(USER).bind(udp(0, 0))).start()?;
    bound(&held)?;
    let (code, objects, said) = inventory(&policy("default: deny\n"), &["--enforce-existing"])?;
    unsupported(&said)?;
    ensure!(code == Some(1), "{code:?}: {said}");
    ensure!(said.contains("keeps its port: stop the program"), "{said}");
    says(at(&objects, 0)?, json!({ "closed": false }))?;
    let errnos = held.errnos()?;
    ensure!(errnos == [libc::ECONNABORTED], "recv(2): {errnos:?}");
    drop(held);
    // A program that ends by that lets go of it.
    let hold = Hold {
        brittle: true,
        ..Hold::of(Probe::user(USER).bind(udp(0, 0)))
    };
    let _held = hold.start()?;
    let (code, objects, said) = inventory(&policy("default: deny\n"), &["--enforce-existing"])?;
    let aborted = said.contains("which keeps its port");
    ensure!(aborted || said.contains("closed udp/"), "{said}");
    // An emulated machine may be too slow to see it end.
    ensure!(code == Some(i32::from(aborted)), "{code:?}: {said}");
    says(at(&objects, 0)?, json!({ "closed": !aborted }))
}

/// Where a kernel without `SOCK_DESTROY` says so.
fn unsupported(said: &str) -> anyhow::Result<()> {
    if said.contains("kernel lacks SOCK_DESTROY support") {
        ensure!(said.contains("stop the program"), "no mend: {said}");
        let why = "SOCK_DESTROY: EOPNOTSUPP (no CONFIG_INET_DIAG_DESTROY)";
        return Err(NotApplicable(why.into()).into());
    }
    Ok(())
}
