//! Metrics of a running daemon.

use crate::harness::Table;
use crate::harness::env::by_kernel;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, BindResult, Probe};
use crate::harness::scrape::{Scraped, free_address};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("metrics_of_binds", Needs::Nothing, of_binds),
    ("metrics_address_in_use", Needs::Nothing, address_in_use),
    ("metrics_unix_socket", Needs::Nothing, unix_socket),
    ("metrics_beside_silent_connections", Needs::Nothing, silent),
];

const POLICY: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: no-root, action: deny, ports: [81], users: [0] }
  - { name: quiet, action: deny, ports: [83], users: [0], log: none }
";

fn times(uid: u32, port: u16, count: usize) -> Probe {
    (0..count).fold(Probe::user(uid), |probe, _| probe.bind(Attempt::tcp(port)))
}

fn of_binds(env: &TestEnv) -> anyhow::Result<()> {
    let address = free_address()?;
    let metrics = address.to_string();
    let arguments = ["--output", "json", "--metrics", &metrics];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let denial = env.denial(instance.hook);
    let granted = if env.grants() { 0 } else { libc::EACCES };
    let web = times(33, 80, 3);
    let by_default = times(1000, 82, 4);
    for (probe, errno) in [
        (&web, granted),
        (&times(0, 81, 5), denial),
        (&times(0, 83, 2), denial),
        (&by_default, by_kernel(1000, 82)),
    ] {
        let results = probe.run()?;
        ensure!(
            results
                .iter()
                .all(|result| *result == BindResult::Bound(errno)),
            "not {errno}: {results:?}"
        );
    }
    // The sentinel bind is one more decision of the default.
    let events = instance.events_of(&web.comm)?;
    let policy = events.first().context("the grants' event")?["policy"].clone();
    let policy = policy.as_str().context("a policy's hash")?;
    let scraped = Scraped::from(address)?;
    let rule = "portguard_rule_decisions_total";
    let version = env!("CARGO_PKG_VERSION");
    scraped.check(&[
        ("portguard_decisions_total", &[("verdict", "allow")], 3),
        ("portguard_decisions_total", &[("verdict", "deny")], 7),
        ("portguard_decisions_total", &[("verdict", "kernel")], 5),
        (rule, &[("rule", "web"), ("verdict", "allow")], 3),
        (rule, &[("rule", "no-root"), ("verdict", "deny")], 5),
        (rule, &[("rule", "quiet"), ("verdict", "deny")], 2),
        (rule, &[("rule", ""), ("verdict", "kernel")], 5),
        (
            "portguard_policy_info",
            &[("hash", policy), ("mode", "enforce")],
            1,
        ),
        ("portguard_hook_info", &[("hook", instance.hook)], 1),
        ("portguard_build_info", &[("version", version)], 1),
        ("portguard_enforcing", &[], 1),
        ("portguard_state", &[("state", "enforce")], 1),
        ("portguard_state", &[("state", "degraded")], 0),
        ("portguard_problems", &[], 0),
        ("portguard_reattached_total", &[], 0),
        ("portguard_reload_failed", &[], 0),
        ("portguard_reloads_total", &[("result", "success")], 0),
        ("portguard_reloads_total", &[("result", "failure")], 0),
    ])?;
    no_drops(&scraped)?;
    instance.stop()?;
    Ok(())
}

/// Every reason has a sample from the start, so that rates work from the first drop on.
fn no_drops(scraped: &Scraped) -> anyhow::Result<()> {
    let dropped = "portguard_events_dropped_total";
    let mut reasons = scraped.labels(dropped, "reason");
    reasons.sort();
    ensure!(
        reasons == ["ring_full", "stdout", "uid_quota"],
        "{reasons:?}"
    );
    for reason in &reasons {
        scraped.check(&[(dropped, &[("reason", reason)], 0)])?;
    }
    Ok(())
}

/// The socket is root's, answers, and is removed at the end.
fn unix_socket(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("metrics.sock");
    let metrics = format!("unix:{}", path.display());
    let arguments = ["--sink", "none", "--metrics", &metrics];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let mode = path.symlink_metadata()?.mode() & 0o7777;
    ensure!(mode == 0o660, "{mode:o}");
    Scraped::from_unix(&path)?.check(&[("portguard_enforcing", &[], 1)])?;
    instance.stop()?;
    ensure!(directory.path().read_dir()?.next().is_none(), "it is left");
    Ok(())
}

/// Silent connections keep no scrape out.
fn silent(env: &TestEnv) -> anyhow::Result<()> {
    let address = free_address()?;
    let metrics = address.to_string();
    let arguments = ["--sink", "none", "--metrics", &metrics];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let silent: Result<Vec<_>, _> = (0..400).map(|_| TcpStream::connect(address)).collect();
    let silent = silent?;
    let start = Instant::now();
    Scraped::from(address)?.check(&[("portguard_enforcing", &[], 1)])?;
    // Prometheus waits as long.
    ensure!(start.elapsed() < Duration::from_secs(10), "too slow");
    drop(silent);
    instance.stop()?;
    Ok(())
}

/// An address in use is an error, with the fix, before anything is enforced.
fn address_in_use(env: &TestEnv) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let policy = crate::harness::instance::policy_file(POLICY)?;
    let socket = tempfile::tempdir()?;
    let output = Command::new(crate::harness::instance::program())
        .args(["run", "--hook", env.auto_hook(), "--metrics", &address])
        .arg("--policy")
        .arg(policy.path())
        .arg("--socket")
        .arg(socket.path().join("socket"))
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "--metrics {address}: cannot listen there: Address already in use (os error 98); give an \
         address of this host and a free port"
    );
    ensure!(
        output.status.code() == Some(3) && stderr.contains(&expected),
        "{}: {stderr}",
        output.status
    );
    let results = times(0, 81, 1).run()?;
    ensure!(results == [BindResult::Bound(0)], "enforced: {results:?}");
    Ok(())
}
