//! Sockets that hold protected ports when `portguard run` starts, or when its policy changes: counted, said,
//! and closed where that is wanted.

use super::Table;
use super::inventory::{USER, bound, policy, port, tcp};
use crate::harness::instance::{DEADLINE, Instance};
use crate::harness::probe::{Answer, Probe};
use crate::harness::scrape::{Scraped, free_address};
use crate::harness::socket_holder::{Held, Hold};
use crate::harness::{Needs, NotApplicable, TestEnv};
use anyhow::ensure;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("elders_counted", Needs::Nothing, counted),
    ("elders_closed", Needs::Nothing, closed),
    ("elders_in_audit_mode", Needs::Nothing, in_audit_mode),
];

/// Denies everybody our ports.
fn denied() -> String {
    policy("default: deny\n")
}

/// Lets the holder have them.
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

/// Waits until `status` and the metrics say so many.
fn violations(instance: &Instance, address: SocketAddr, wanted: u32) -> anyhow::Result<()> {
    let until = Instant::now() + DEADLINE;
    loop {
        let status = instance.status()?;
        if status["violations"] == wanted {
            break;
        }
        ensure!(Instant::now() < until, "not {wanted} violations: {status}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Scraped::from(address)?.says(&[("portguard_existing_violations", &[], wanted)])?;
    let output = instance.command(&["status"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{wanted} sockets bound before hold protected ports against the policy");
    ensure!(text.contains(&said) == (wanted > 0), "{text}");
    Ok(())
}

/// Waits until it has said something of both sockets, before it was ready or since then.
fn said(instance: &mut Instance, what: &str) -> anyhow::Result<()> {
    for offset in [0, 1] {
        let part = format!("tcp/{} 127.77.0.2 of ", port(offset));
        while !(instance.said.lines()).any(|line| line.contains(&part) && line.contains(what)) {
            instance.wait_for(&part)?;
        }
    }
    Ok(())
}

const WARNING: &str = "has been there before, against the policy: see `portguard inventory`";

/// At the start and after each reload, for the policy that is in force then.
fn counted(env: &TestEnv) -> anyhow::Result<()> {
    let mut held = held()?;
    let (mut instance, address) = start(env, &denied(), &[])?;
    said(&mut instance, WARNING)?;
    violations(&instance, address, 2)?;
    instance.change(&allowed())?;
    instance.wait_for("is in force")?;
    violations(&instance, address, 0)?;
    instance.said.clear();
    instance.change(&denied())?;
    said(&mut instance, WARNING)?;
    violations(&instance, address, 2)?;
    let errnos = held.errnos()?;
    ensure!(errnos == [libc::EAGAIN; 2], "touched: {errnos:?}");
    instance.stop()?;
    Ok(())
}

/// Where that is wanted: at the start, and after a reload that denies what was allowed.
fn closed(env: &TestEnv) -> anyhow::Result<()> {
    let mut first = held()?;
    let (mut instance, address) = start(env, &denied(), &["--enforce-existing"])?;
    gone(&mut instance, &mut first)?;
    // What accepts no more has its port none the less, which a kernel before 6.8 does not show.
    let left = if env.kernel >= (6, 8) { 2 } else { 0 };
    violations(&instance, address, left)?;
    ensure!(!instance.said.contains(WARNING), "{}", instance.said);
    drop(first);
    instance.change(&allowed())?;
    instance.wait_for("is in force")?;
    let mut second = held()?;
    instance.said.clear();
    instance.command(&["reload"]).output()?;
    violations(&instance, address, 0)?;
    let errnos = second.errnos()?;
    ensure!(
        errnos == [libc::EAGAIN; 2],
        "allowed, and closed: {errnos:?}"
    );
    instance.change(&denied())?;
    gone(&mut instance, &mut second)?;
    violations(&instance, address, left)?;
    drop(second);
    instance.command(&["reload"]).output()?;
    violations(&instance, address, 0)?;
    instance.stop()?;
    Ok(())
}

/// Both sockets accept no more, and that is said; or the kernel cannot, and that is.
fn gone(instance: &mut Instance, held: &mut Held) -> anyhow::Result<()> {
    while !instance.said.contains("lacks SOCK_DESTROY support") {
        if (instance.said.matches("no longer accepts connections")).count() == 2 {
            let errnos = held.errnos()?;
            ensure!(errnos == [libc::EINVAL; 2], "accept(2): {errnos:?}");
            return said(instance, "closed tcp/");
        }
        instance.wait_for("closed")?;
    }
    let why = "SOCK_DESTROY: EOPNOTSUPP (no CONFIG_INET_DIAG_DESTROY)";
    Err(NotApplicable(why.into()).into())
}

/// What only reports closes nothing.
fn in_audit_mode(env: &TestEnv) -> anyhow::Result<()> {
    let mut held = held()?;
    let (mut instance, address) =
        start(env, &denied(), &["--enforce-existing", "--mode", "audit"])?;
    said(&mut instance, WARNING)?;
    violations(&instance, address, 2)?;
    let errnos = held.errnos()?;
    ensure!(errnos == [libc::EAGAIN; 2], "audit closed one: {errnos:?}");
    let answers = Probe::user(USER).bind(tcp(2)).run()?;
    ensure!(answers == [Answer::Bound(0)], "audit denies: {answers:?}");
    Scraped::from(address)?.says(&[
        ("portguard_decisions_total", &[("verdict", "deny")], 1),
        ("portguard_policy_info", &[("mode", "audit")], 1),
        ("portguard_enforcing", &[], 0),
        ("portguard_state", &[("state", "audit")], 1),
        ("portguard_state", &[("state", "enforce")], 0),
    ])?;
    instance.stop()?;
    Ok(())
}
