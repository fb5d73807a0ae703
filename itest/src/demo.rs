//! `portguard-itest demo`: enforces a policy briefly and makes the binds of its `tests:`.

use crate::harness::cgroups::Cgroups;
use crate::harness::instance::program;
use crate::harness::lines::DEADLINE;
use crate::harness::probe::{Attempt, BindResult, Probe};
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_yaml::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A portguard that writes to the terminal, killed when dropped.
struct Foreground(Child);

impl Drop for Foreground {
    fn drop(&mut self) {
        // It may have ended already; std does not signal a reaped child.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run(policy: &Path, args: &[String]) -> anyhow::Result<()> {
    let entries = entries(policy)?;
    let mut child = Command::new(program())
        .args(["run", "--output", "text", "--policy"])
        .arg(policy)
        .args(args)
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().context("stderr is a pipe")?;
    let mut portguard = Foreground(child);
    let (ready, became_ready) = std::sync::mpsc::channel();
    let relay = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            if line.contains("portguard: ready") && ready.send(()).is_err() {
                break;
            }
        }
    });
    became_ready
        .recv_timeout(DEADLINE)
        .context("portguard did not become ready")?;
    for entry in &entries {
        show(entry)?;
    }
    kill_process(Pid::from_child(&portguard.0), Signal::TERM)?;
    let status = portguard.0.wait()?;
    // The thread ends when the pipe closes.
    let _ = relay.join();
    ensure!(status.success(), "portguard ended with {status}");
    Ok(())
}

fn entries(policy: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(policy).with_context(|| policy.display().to_string())?;
    let mut policy: Value = serde_yaml::from_str(&text)?;
    match policy.get_mut("tests").map(std::mem::take) {
        Some(Value::Sequence(entries)) if !entries.is_empty() => Ok(entries),
        _ => bail!("the policy has no tests"),
    }
}

/// Makes the bind of one entry and prints its result.
fn show(entry: &Value) -> anyhow::Result<()> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let port = entry
        .get("port")
        .and_then(Value::as_u64)
        .context("a test without port")?;
    let port = u16::try_from(port)?;
    let (uid, user) = user(entry.get("user"))?;
    let cgroup = text("cgroup").unwrap_or("/").trim_matches('/').to_owned();
    let mut made = Cgroups::default();
    if !cgroup.is_empty() {
        made.make(&cgroup.split('/').map(str::to_owned).collect::<Vec<_>>())?;
    }
    let protocol = text("protocol").unwrap_or("tcp");
    let attempt = match protocol {
        "udp" => Attempt::udp(port),
        "sctp" => Attempt {
            protocol: 132,
            ..Attempt::tcp(port)
        },
        "dccp" => Attempt {
            kind: 6,
            protocol: 33,
            ..Attempt::tcp(port)
        },
        _ => Attempt::tcp(port),
    };
    let mut probe = Probe::user(uid).in_cgroup(&cgroup).bind(attempt);
    probe.comm = b"demo".to_vec();
    let results = probe.run()?;
    let described: Vec<String> = results.iter().map(describe).collect();
    eprintln!(
        "demo: {user} binds {protocol}/{port} in /{cgroup}: {}",
        described.join(", ")
    );
    Ok(())
}

/// The uid, and the name as in the policy.
fn user(value: Option<&Value>) -> anyhow::Result<(u32, String)> {
    match value {
        None => Ok((0, "root".into())),
        Some(Value::Number(number)) => {
            let uid = number.as_u64().context("a uid")?;
            Ok((u32::try_from(uid)?, uid.to_string()))
        }
        Some(Value::String(name)) => {
            let known = std::fs::read_to_string("/etc/passwd")?;
            let uid = known.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some(name))
                    .then(|| fields.nth(1)?.parse().ok())
                    .flatten()
            });
            let uid = uid
                .or_else(|| name.parse().ok())
                .with_context(|| format!("no such user: {name}"))?;
            Ok((uid, name.clone()))
        }
        Some(other) => bail!("not a user: {other:?}"),
    }
}

fn describe(result: &BindResult) -> String {
    match *result {
        BindResult::Bound(0) => "it has the port".to_owned(),
        BindResult::Bound(errno) => {
            format!("refused, {}", std::io::Error::from_raw_os_error(errno))
        }
        BindResult::NoSocket(errno) | BindResult::Unsupported(errno) => {
            format!(
                "not possible here, {}",
                std::io::Error::from_raw_os_error(errno)
            )
        }
    }
}
