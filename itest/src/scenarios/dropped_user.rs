//! A daemon that binds as root and goes on as another user, as dnsmasq, chronyd and haproxy do.

use super::inventory::{ADDRESS, USER, expect_fields, inventory, table_line, unit};
use crate::harness::instance::{Instance, program};
use crate::harness::probe::{Attempt, BindResult, Probe, inet};
use crate::harness::socket_holder::{Held, Hold};
use crate::harness::{Needs, Table, TestEnv};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::process::Command;

pub(super) const TESTS: Table = &[(
    "inventory_dropped_user",
    Needs::Nothing,
    binds_as_root_and_drops_its_user,
)];

fn start(unit: &str, port: u16) -> anyhow::Result<Held> {
    let address = inet(libc::AF_INET, ADDRESS, port);
    let udp = Attempt::new(libc::AF_INET, libc::SOCK_DGRAM, 0, address);
    let probe = Probe::user(0).in_cgroup(unit);
    let hold = Hold {
        drops_to: Some(USER),
        ..Hold::of(probe.bind(udp).bind(Attempt::tcp_at(ADDRESS, port)))
    };
    hold.start()
}

/// It is judged by who bound, both users are named, it is not closed, and it starts again under what `suggest` writes.
fn binds_as_root_and_drops_its_user(env: &TestEnv) -> anyhow::Result<()> {
    let mut ports = [53, 953, 853, 647].into_iter();
    let port = ports
        .find(|port| UdpSocket::bind((ADDRESS, *port)).is_ok())
        .context("no free port")?;
    let (unit, _cgroups) = unit("service")?;
    let mut daemon = start(&unit, port)?;
    ensure!(
        daemon.results == [BindResult::Bound(0); 2],
        "{:?}",
        daemon.results
    );
    let policy = |users: &str| {
        format!(
            "{{ version: 1, protect: [{port}], default: deny, rules: [
                {{ name: dns, action: allow, units: [{unit}], users: [{users}] }}] }}"
        )
    };
    // Who bound, and who has it now: a policy that names either of them does not mean to close it.
    for users in ["0", "1000"] {
        let (code, objects, stderr) = inventory(&policy(users), &["--enforce-existing"])?;
        ensure!(code == Some(0), "{users}: {code:?}: {objects:?} {stderr}");
        ensure!(objects.len() == 2, "{objects:?}");
        for object in &objects {
            expect_fields(
                object,
                json!({ "uid": 0, "verdict": "allow", "rule": "dns", "unit": unit, "violation": false,
                    "closed": null }),
            )?;
            expect_fields(
                &object["processes"][0],
                json!({ "pid": daemon.pid(), "euid": USER }),
            )?;
        }
    }
    ensure!(daemon.errnos()? == [libc::EAGAIN; 2], "closed one");
    let (line, table) = table_line(&policy("0"), &format!("udp/{port}"))?;
    let both = ["(1000)", "now 1000"].iter().any(|now| line.contains(now));
    ensure!(line.contains("root(0), now ") && both, "{table}");
    let (code, objects, _) = inventory(&policy("1"), &[])?;
    ensure!(code == Some(1), "neither is allowed: {objects:?}");
    starts_again(env, daemon, &unit, port)
}

/// The policy that `suggest` writes has a rule without which the daemon would not start.
fn starts_again(env: &TestEnv, daemon: Held, unit: &str, port: u16) -> anyhow::Result<()> {
    let output = Command::new(program())
        .args(["suggest", "--from-host"])
        .output()?;
    let suggested = String::from_utf8(output.stdout)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    let rest = format!("{suggested}  - {{ name: nobody-else, action: deny, ports: [{port}] }}\n");
    let instance = Instance::start_by(env, &rest, env.auto_hook(), &["--enforce-existing"])?;
    let left = inventory(&rest, &[])?.1;
    let of_port: Vec<&Value> = left
        .iter()
        .filter(|object| object["port"] == port)
        .collect();
    ensure!(of_port.len() == 2, "{left:?}");
    for object in of_port {
        expect_fields(
            object,
            json!({ "verdict": "allow", "violation": false, "unit": unit }),
        )?;
    }
    drop(daemon);
    let again = start(unit, port)?;
    ensure!(
        again.results == [BindResult::Bound(0); 2],
        "{:?}\n{rest}",
        again.results
    );
    drop(again);
    let elsewhere = Probe::user(0).bind(Attempt::tcp_at(ADDRESS, port)).run()?;
    let refused = matches!(
        elsewhere[..],
        [BindResult::Bound(libc::EACCES | libc::EPERM)]
    );
    ensure!(refused, "{elsewhere:?}");
    instance.stop()?;
    Ok(())
}
