//! Sinks: rotated files, journald, none.

use crate::harness::Table;
use crate::harness::instance::Instance;
use crate::harness::lines::DEADLINE;
use crate::harness::probe::{Attempt, BindResult, Probe, Running};
use crate::harness::{Needs, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) const TESTS: Table = &[
    ("sink_file_rotated", Needs::Nothing, file_rotated),
    ("sink_journald", Needs::Guest, journald),
    ("sink_none", Needs::Nothing, none),
];

const POLICY: &str = "version: 1
rules:
  - { name: no-root, action: deny, ports: [81], users: [0] }
";

/// Binds of each round, and rounds, each with a rotation.
const BINDS: u8 = 250;
const ROUNDS: u8 = 4;

/// Binds of addresses that are bound in no other round.
fn round(number: u8) -> anyhow::Result<Running> {
    let binds = (1..=BINDS).map(|last| Ipv4Addr::new(127, 66, number, last));
    let probe = binds.fold(Probe::user(0), |probe, address| {
        probe.bind(Attempt::tcp_at(address, 81))
    });
    probe.spawn()
}

/// A file is renamed and SIGUSR1 sent, as logrotate does, while decisions are made.
fn file_rotated(env: &TestEnv) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("decisions.jsonl");
    let sink = format!("file:{}", path.display());
    let arguments = ["--no-fold", "--sink", &sink];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let mut files = vec![path.clone()];
    for number in 0..ROUNDS {
        let running = round(number)?;
        until("decisions in the file", || {
            std::fs::metadata(&path).is_ok_and(|file| file.len() > 0)
        })?;
        let old = path.with_extension(format!("{number}"));
        std::fs::rename(&path, &old)?;
        instance.signal(Signal::USR1)?;
        until("the reopened file", || path.exists())?;
        files.push(old);
        running.wait()?;
    }
    // Decisions made after the file was reopened are in no other file.
    round(ROUNDS)?.wait()?;
    let ended = instance.stop()?;
    ensure!(ended.stdout.is_empty(), "on stdout: {:?}", ended.stdout);
    ensure!(
        ended.stderr.contains("; 0 events dropped"),
        "{}",
        ended.stderr
    );
    let mut distinct = BTreeSet::new();
    for file in &files {
        let addresses = addresses(file)?;
        ensure!(!addresses.is_empty(), "nothing in {}", file.display());
        if *file == path {
            let all: BTreeSet<_> = addresses.iter().collect();
            let last = (1..=BINDS).map(|last| Ipv4Addr::new(127, 66, ROUNDS, last).to_string());
            let missing: Vec<_> = last.filter(|address| !all.contains(address)).collect();
            ensure!(missing.is_empty(), "not in the reopened file: {missing:?}");
        }
        for address in addresses {
            ensure!(distinct.insert(address.clone()), "{address} twice");
        }
    }
    let all = usize::from(BINDS) * usize::from(ROUNDS + 1);
    ensure!(distinct.len() == all, "{} of {all}", distinct.len());
    Ok(())
}

/// The bound address of each line.
fn addresses(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    ensure!(text.ends_with('\n'), "half a line in {}", path.display());
    text.lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let address = event["address"].as_str();
            Ok(address.context("address")?.to_owned())
        })
        .collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    while !done() {
        ensure!(Instant::now() < end, "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A journald of the test, removed when dropped.
struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    fn bind() -> anyhow::Result<Self> {
        let path = PathBuf::from("/run/systemd/journal/socket");
        std::fs::create_dir_all(path.parent().context("a directory")?)?;
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { socket, path })
    }

    /// The fields of the next entry, none of which has a newline.
    fn entry(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut bytes = vec![0; 64 << 10];
        let length = self.socket.recv(&mut bytes).context("no entry comes")?;
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        text.lines()
            .map(|line| {
                let (name, value) = line.split_once('=').with_context(|| text.clone())?;
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Guests have no other journald.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The journal entry has every field of the event.
fn journald(env: &TestEnv) -> anyhow::Result<()> {
    let journal = Journal::bind()?;
    let arguments = ["--output", "json", "--sink", "journald", "--sink", "stdout"];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let probe = Probe::user(0).bind(Attempt::tcp(81));
    let comm = String::from_utf8_lossy(&probe.comm).into_owned();
    probe.run()?;
    let events = instance.events_of(&probe.comm)?;
    let event = events.first().context("an event")?;
    let fields = journal.entry()?;
    let user = event["user"].as_str().unwrap_or("?");
    for (name, value) in [
        ("SYSLOG_IDENTIFIER", "portguard".to_owned()),
        ("PRIORITY", "4".to_owned()),
        (
            "MESSAGE",
            format!(
                "deny tcp/81 127.0.0.1 by {user}(0) {comm}[{}] in {}: rule no-root, {}",
                event["pid"],
                event["cgroup"].as_str().context("cgroup")?,
                event["errno"].as_str().context("errno")?
            ),
        ),
    ] {
        ensure!(fields.get(name) == Some(&value), "{name}: {fields:?}");
    }
    for (name, value) in event.as_object().context("an object")? {
        let field = fields.get(&format!("PORTGUARD_{}", name.to_ascii_uppercase()));
        let same = match value {
            Value::Null => field.is_none(),
            Value::String(text) => field == Some(text),
            other => field == Some(&other.to_string()),
        };
        ensure!(same, "{name} is {value}: {fields:?}");
    }
    instance.stop()?;
    Ok(())
}

/// Decisions are enforced and counted, and written nowhere.
fn none(env: &TestEnv) -> anyhow::Result<()> {
    let arguments = ["--sink", "none"];
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &arguments)?;
    let denied = BindResult::Bound(env.denial(instance.hook));
    let results = round(0)?.wait()?;
    ensure!(
        results.iter().all(|result| *result == denied),
        "{results:?}"
    );
    let ended = instance.stop()?;
    ensure!(ended.stdout.is_empty(), "on stdout: {:?}", ended.stdout);
    let summed =
        format!("portguard: decided {BINDS}: 0 allow, {BINDS} deny, 0 kernel; 0 events dropped");
    ensure!(ended.stderr.contains(&summed), "{}", ended.stderr);
    Ok(())
}
