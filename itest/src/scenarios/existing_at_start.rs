//! Sockets bound before `portguard run` started or its policy changed: counted, reported, and closed by
//! `--enforce-existing`.

use super::inventory::{USER, bound, policy, port, tcp};
use crate::harness::Table;
use crate::harness::instance::Instance;
use crate::harness::lines::DEADLINE;
use crate::harness::probe::{BindResult, Probe};
use crate::harness::scrape::{Scraped, free_address};
use crate::harness::socket_holder::{Held, Hold};
use crate::harness::{Needs, NotApplicable, TestEnv};
use anyhow::ensure;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("existing_at_start_counted", Needs::Nothing, counted),
    ("existing_at_start_closed", Needs::Nothing, closed),
    ("existing_at_start_audit", Needs::Nothing, in_audit_mode),
];

/// Denies the ports of these tests.
fn denied() -> String {
    policy("default: deny\n")
}

/// Allows the holder to bind them.
fn allowed() -> String {
    policy(&format!(
        "default: deny\nrules: [{{ name: theirs, action: allow, users: [{USER}] }}]\n"
    ))
}

fn held() -> anyhow::Result<Held> {
    let held = Hold::of(Probe::user(USER).bind(tcp(0)).bind(tcp(1))).start()?;
    bound(&held)?;
    Ok(held)
}

fn start(env: &TestEnv, policy: &str, more: &[&str]) -> anyhow::Result<(Instance, SocketAddr)> {
    let address = free_address()?;
    let metrics = address.to_string();
    let arguments = [&["--sink", "none", "--metrics", &metrics], more].concat();
    let instance = Instance::start_by(env, policy, env.auto_hook(), &arguments)?;
    Ok((instance, address))
}

/// Waits until `status` counts this many, and checks the metrics.
fn violations(instance: &Instance, address: SocketAddr, expected: u32) -> anyhow::Result<()> {
    let until = Instant::now() + DEADLINE;
    loop {
        let status = instance.status()?;
        if status["violations"] == expected {
            break;
        }
        ensure!(
            Instant::now() < until,
            "not {expected} violations: {status}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Scraped::from(address)?.check(&[("portguard_existing_violations", &[], expected)])?;
    let output = instance.command(&["status"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = format!("{expected} sockets already bound in violation of the policy");
    ensure!(text.contains(&line) == (expected > 0), "{text}");
    let code = output.status.code();
    ensure!(
        code == Some(i32::from(expected > 0)),
        "exit code {code:?}: {text}"
    );
    Ok(())
}

/// Waits for a line about each of the two sockets, unless it has come already.
fn wait_for_both(instance: &mut Instance, what: &str) -> anyhow::Result<()> {
    for offset in [0, 1] {
        let part = format!("tcp/{} 127.77.0.2 of ", port(offset));
        while !(instance.stderr.lines()).any(|line| line.contains(&part) && line.contains(what)) {
            instance.wait_for(&part)?;
        }
    }
    Ok(())
}

const WARNING: &str =
    "was already bound before portguard started and violates the policy: see `portguard inventory`";

/// Violations are counted at the start and after each reload, by the policy in force.
fn counted(env: &TestEnv) -> anyhow::Result<()> {
    let mut held = held()?;
    let (mut instance, address) = start(env, &denied(), &[])?;
    wait_for_both(&mut instance, WARNING)?;
    violations(&instance, address, 2)?;
    instance.change(&allowed())?;
    instance.wait_for("is in force")?;
    violations(&instance, address, 0)?;
    instance.stderr.clear();
    instance.change(&denied())?;
    wait_for_both(&mut instance, WARNING)?;
    violations(&instance, address, 2)?;
    let errnos = held.errnos()?;
    ensure!(errnos == [libc::EAGAIN; 2], "touched: {errnos:?}");
    instance.stop()?;
    Ok(())
}

/// With `--enforce-existing` sockets are closed at the start and after a reload that denies them.
fn closed(env: &TestEnv) -> anyhow::Result<()> {
    let mut first = held()?;
    let (mut instance, address) = start(env, &denied(), &["--enforce-existing"])?;
    wait_for_close(&mut instance, &mut first)?;
    // A closed listener keeps its port, which kernels before 6.8 do not list.
    let left = if env.kernel >= (6, 8) { 2 } else { 0 };
    violations(&instance, address, left)?;
    ensure!(!instance.stderr.contains(WARNING), "{}", instance.stderr);
    drop(first);
    instance.change(&allowed())?;
    instance.wait_for("is in force")?;
    let mut second = held()?;
    instance.stderr.clear();
    instance.command(&["reload"]).output()?;
    violations(&instance, address, 0)?;
    let errnos = second.errnos()?;
    ensure!(
        errnos == [libc::EAGAIN; 2],
        "allowed, and closed: {errnos:?}"
    );
    instance.change(&denied())?;
    wait_for_close(&mut instance, &mut second)?;
    violations(&instance, address, left)?;
    drop(second);
    instance.command(&["reload"]).output()?;
    violations(&instance, address, 0)?;
    instance.stop()?;
    Ok(())
}

/// Both sockets are closed, and that is reported; or the kernel cannot close them, and that is reported.
fn wait_for_close(instance: &mut Instance, held: &mut Held) -> anyhow::Result<()> {
    while !instance.stderr.contains("lacks SOCK_DESTROY support") {
        if (instance.stderr.matches("no longer accepts connections")).count() == 2 {
            let errnos = held.errnos()?;
            ensure!(errnos == [libc::EINVAL; 2], "accept(2): {errnos:?}");
            return wait_for_both(instance, "closed tcp/");
        }
        instance.wait_for("closed")?;
    }
    let why = "SOCK_DESTROY: EOPNOTSUPP (no CONFIG_INET_DIAG_DESTROY)";
    Err(NotApplicable(why.into()).into())
}

/// Audit mode closes nothing.
fn in_audit_mode(env: &TestEnv) -> anyhow::Result<()> {
    let mut held = held()?;
    let (mut instance, address) =
        start(env, &denied(), &["--enforce-existing", "--mode", "audit"])?;
    wait_for_both(&mut instance, WARNING)?;
    violations(&instance, address, 2)?;
    let errnos = held.errnos()?;
    ensure!(errnos == [libc::EAGAIN; 2], "audit closed one: {errnos:?}");
    let results = Probe::user(USER).bind(tcp(2)).run()?;
    ensure!(
        results == [BindResult::Bound(0)],
        "audit denies: {results:?}"
    );
    Scraped::from(address)?.check(&[
        ("portguard_decisions_total", &[("verdict", "deny")], 1),
        ("portguard_policy_info", &[("mode", "audit")], 1),
        ("portguard_enforcing", &[], 0),
        ("portguard_state", &[("state", "audit")], 1),
        ("portguard_state", &[("state", "enforce")], 0),
    ])?;
    instance.stop()?;
    Ok(())
}
