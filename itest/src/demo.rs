//! `portguard-itest demo`: a policy enforced for a moment, with the binds of its own `tests:` made for real.

use crate::harness::bind_runner::Cgroups;
use crate::harness::instance::{DEADLINE, program};
use crate::harness::probe::{Answer, Attempt, Probe};
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_yaml::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A portguard whose output is the terminal's; ended when dropped.
struct Shown(Child);

impl Drop for Shown {
    fn drop(&mut self) {
        // It may have ended already; std signals nobody else then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The verb `demo`.
pub fn run(policy: &Path, args: &[String]) -> anyhow::Result<()> {
    let entries = entries(policy)?;
    let mut child = Command::new(program())
        .args(["run", "--output", "text", "--policy"])
        .arg(policy)
        .args(args)
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().context("stderr is a pipe")?;
    let mut shown = Shown(child);
    let (ready, told) = std::sync::mpsc::channel();
    let relay = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            if line.contains("portguard: ready") && ready.send(()).is_err() {
                break;
            }
        }
    });
    told.recv_timeout(DEADLINE)
        .context("portguard did not become ready")?;
    for entry in &entries {
        show(entry)?;
    }
    kill_process(Pid::from_child(&shown.0), Signal::TERM)?;
    let status = shown.0.wait()?;
    // It ends with the pipe.
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

/// Makes the bind of one entry and says who made it.
fn show(entry: &Value) -> anyhow::Result<()> {
    let word = |key: &str| entry.get(key).and_then(Value::as_str);
    let port = entry
        .get("port")
        .and_then(Value::as_u64)
        .context("a test without port")?;
    let port = u16::try_from(port)?;
    let (uid, user) = user(entry.get("user"))?;
    let cgroup = word("cgroup").unwrap_or("/").trim_matches('/').to_owned();
    let mut made = Cgroups::default();
    if !cgroup.is_empty() {
        made.make(&cgroup.split('/').map(str::to_owned).collect::<Vec<_>>())?;
    }
    let protocol = word("protocol").unwrap_or("tcp");
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
    let answers = probe.run()?;
    let outcome: Vec<String> = answers.iter().map(said).collect();
    eprintln!(
        "demo: {user} binds {protocol}/{port} in /{cgroup}: {}",
        outcome.join(", ")
    );
    Ok(())
}

/// The uid and the name as the policy has it.
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
                .with_context(|| format!("no user {name}"))?;
            Ok((uid, name.clone()))
        }
        Some(other) => bail!("no user: {other:?}"),
    }
}

/// What the process that made the bind would say of it.
fn said(answer: &Answer) -> String {
    match *answer {
        Answer::Bound(0) => "it has the port".to_owned(),
        Answer::Bound(errno) => format!("refused, {}", std::io::Error::from_raw_os_error(errno)),
        Answer::NoSocket(errno) | Answer::Unsupported(errno) => {
            format!(
                "not possible here, {}",
                std::io::Error::from_raw_os_error(errno)
            )
        }
    }
}
