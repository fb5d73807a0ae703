//! The attack suite: every actor by every way to every kind of port, by each hook, against two tables.

mod actors;
mod entry_points;
mod foreign_programs;
mod limits;
mod run_actor;
mod storm;

pub use limits::{Limit, OUT_OF_SCOPE};
pub use run_actor::run as play;
pub use storm::run as storm;

use crate::harness::instance::Instance;
use crate::harness::probe::Answer;
use crate::harness::{Needs, TestEnv};
use crate::scenarios::Table;
use actors::{ACTORS, Actor, JAIL, THREADS, THREADS_FREE, THREADS_JAIL, YARD};
use anyhow::{Context as _, ensure};
use entry_points::{ENTRY_POINTS, EntryPoint, Seen, Setup};
use run_actor::{Tried, make_setuid_copy};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const TESTS: Table = &[
    ("attack_every_way", Needs::Guest, every_way),
    ("attack_storm", Needs::Guest, storm::storm),
    (
        "attack_foreign_programs",
        Needs::Nothing,
        foreign_programs::foreign_programs,
    ),
    (
        "attack_rewritten_ports",
        Needs::Nothing,
        foreign_programs::rewritten_ports,
    ),
    (
        "doctor_lists_other_programs",
        Needs::Guest,
        foreign_programs::doctor_lists_others,
    ),
    (
        "attack_chosen_port",
        Needs::Guest,
        foreign_programs::chosen_port,
    ),
    (
        "attack_local_port_range",
        Needs::Guest,
        foreign_programs::local_port_range,
    ),
];

/// Ports of a kind: way number `n` binds port `first + n`.
struct Ports {
    first: u16,
    /// What the policy makes of them for an actor: the verdict and its rule.
    verdict: fn(&Actor) -> (&'static str, Option<&'static str>),
}

const KERNEL: (&str, Option<&str>) = ("kernel", None);

/// The kinds of ports, as [`POLICY`] has them.
const PORTS: [Ports; 4] = [
    Ports {
        first: 100,
        verdict: |actor| match (actor.uid, actor.euid) {
            (33, 33) => ("allow", Some("web")),
            _ => KERNEL,
        },
    },
    Ports {
        first: 200,
        verdict: |_| ("deny", Some("refused")),
    },
    Ports {
        first: 300,
        verdict: |actor| match actor.jailed {
            true => ("deny", Some("jail")),
            false => KERNEL,
        },
    },
    Ports {
        first: 400,
        verdict: |_| KERNEL,
    },
];

const POLICY: &str = "
version: 1
rules:
  - { name: web, action: allow, ports: [100-199], users: [33] }
  - { name: refused, action: deny, ports: [200-299] }
  - { name: jail, action: deny, ports: [300-399], cgroups: [/pgattack/jail, /pgattack/threads/jail] }
";

/// Enters a cgroup below the suite's: `cgroup.procs` takes the process, `cgroup.threads` the thread.
fn enter(root: &Path, path: &str, file: &str) -> anyhow::Result<()> {
    let file = root.join(path).join(file);
    fs::write(&file, "0").with_context(|| file.display().to_string())
}

/// The hundreds that rule `jail` means.
const JAIL_RULE: u16 = 3;

fn port(way: usize, ports: usize) -> u16 {
    // A table of fewer than a hundred ways.
    PORTS.get(ports).map_or(0, |ports| ports.first) + u16::try_from(way).unwrap_or(0)
}

/// What the actors need, removed when dropped.
struct Stage {
    root: PathBuf,
    _setuid: Vec<tempfile::TempPath>,
}

impl Stage {
    fn build(env: &TestEnv) -> anyhow::Result<Self> {
        let root = env.cgroups.join("pgattack");
        let stage = Self {
            _setuid: [0, 33, 1000]
                .into_iter()
                .map(make_setuid_copy)
                .collect::<Result<_, _>>()?,
            root,
        };
        fs::create_dir(&stage.root)?;
        for path in [JAIL, YARD, THREADS, THREADS_FREE, THREADS_JAIL] {
            fs::create_dir(stage.root.join(path)).with_context(|| path.to_owned())?;
        }
        for path in [THREADS_FREE, THREADS_JAIL] {
            fs::write(stage.root.join(path).join("cgroup.type"), "threaded")
                .with_context(|| path.to_owned())?;
        }
        Ok(stage)
    }

    /// Plays an actor.
    fn play(&self, index: usize) -> anyhow::Result<Vec<Tried>> {
        let output = Command::new("/proc/self/exe")
            .args(["attack", &index.to_string()])
            .arg(&self.root)
            .arg("0")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "it ended with {}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for path in [THREADS_JAIL, THREADS_FREE, THREADS, YARD, JAIL, ""] {
            // Empty, since every actor was waited for.
            let _ = fs::remove_dir(self.root.join(path));
        }
    }
}

/// A bind that did not go as the tables say.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }

    fn none(self) -> anyhow::Result<()> {
        let first: Vec<&str> = self.0.iter().take(12).map(String::as_str).collect();
        ensure!(
            self.0.is_empty(),
            "{} wrong: {}",
            self.0.len(),
            first.join("; ")
        );
        Ok(())
    }
}

fn every_way(env: &TestEnv) -> anyhow::Result<()> {
    ensure!(ENTRY_POINTS.len() < 100, "the ports of two kinds overlap");
    let stage = Stage::build(env)?;
    let mut wrong = Wrong::default();
    let mut unguarded = Vec::new();
    for (index, actor) in ACTORS.iter().enumerate() {
        let tried = stage.play(index).with_context(|| actor.name)?;
        for of in &tried {
            without_portguard(env, actor, of, &mut wrong);
        }
        unguarded.push(tried);
    }
    let mut binds = 0;
    for hook in env.deciding_hooks() {
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        for (index, actor) in ACTORS.iter().enumerate() {
            let tried = stage.play(index).with_context(|| actor.name)?;
            let events = instance.events()?;
            let before = unguarded.get(index).map_or(&[][..], Vec::as_slice);
            binds += tried.len();
            judge(env, hook, (actor, before), (&tried, &events), &mut wrong);
        }
        instance.stop()?;
    }
    println!(
        "attack: {} actors, {} ways, {binds} binds",
        ACTORS.len(),
        ENTRY_POINTS.len()
    );
    wrong.none()
}

/// The table is right about the kernel alone: which ways there are, and who has the capability.
fn without_portguard(env: &TestEnv, actor: &Actor, tried: &Tried, wrong: &mut Wrong) {
    let Some(way) = ENTRY_POINTS.get(tried.way) else {
        return;
    };
    let expected = way.is_in(env.kernel);
    // `TCP_REPAIR` is asked of who has CAP_NET_ADMIN when the socket is made.
    let admin = way.setup != Setup::Repair || (actor.before.is_empty() && actor.uid == 0);
    match tried.answer {
        Answer::NoSocket(_) | Answer::Unsupported(_) if !expected => {}
        Answer::NoSocket(libc::EPERM) if !admin => {}
        Answer::Bound(errno) if expected => {
            let want = by_kernel(actor);
            wrong.unless(errno == want, || {
                format!(
                    "{}, {}: errno {errno}, not {want}, without portguard",
                    actor.name, way.name
                )
            });
        }
        other => wrong.0.push(format!(
            "{}, {}: {other:?} without portguard on {:?}",
            actor.name, way.name, env.kernel
        )),
    }
}

const fn by_kernel(actor: &Actor) -> i32 {
    if actor.capable { 0 } else { libc::EACCES }
}

/// Compares what an actor met, and what was reported of it, with the tables.
fn judge(
    env: &TestEnv,
    hook: &str,
    (actor, before): (&Actor, &[Tried]),
    (tried, events): (&[Tried], &[Value]),
    wrong: &mut Wrong,
) {
    let mut told = 0;
    for (of, before) in tried.iter().zip(before) {
        let Answer::Bound(errno) = of.answer else {
            // What was there without portguard is there with it.
            wrong.unless(of.answer == before.answer, || {
                format!("{}, {of:?} was {:?}", actor.name, before.answer)
            });
            continue;
        };
        let (Some(way), Some(ports)) = (ENTRY_POINTS.get(of.way), PORTS.get(of.ports)) else {
            continue;
        };
        let port = port(of.way, of.ports);
        let seen = if hook == "lsm" {
            way.by_lsm
        } else {
            way.by_cgroup
        };
        let judged = actor.judged && seen == Seen::Judged;
        let (verdict, rule) = (ports.verdict)(actor);
        let want = match verdict {
            "deny" if judged => env.denial(hook),
            "allow" if judged && way.grantable && env.grants() => 0,
            _ => by_kernel(actor),
        };
        let name = || format!("{hook}: {}, {}, port {port}", actor.name, way.name);
        wrong.unless(errno == want, || {
            format!("{}: errno {errno}, not {want}", name())
        });
        let of_bind: Vec<&Value> = events
            .iter()
            .filter(|event| event["port"] == port && event["pid"] == of.pid)
            .collect();
        told += of_bind.len();
        match (judged, &of_bind[..]) {
            (false, []) => {}
            (true, [event]) => report(env, (actor, way), (verdict, rule), event, wrong),
            (_, other) => wrong.0.push(format!("{}: {} events", name(), other.len())),
        }
    }
    wrong.unless(told == events.len(), || {
        format!(
            "{hook}: {}: {} events, {told} of its binds",
            actor.name,
            events.len()
        )
    });
}

/// The event says what was decided, of whom.
fn report(
    env: &TestEnv,
    (actor, way): (&Actor, &EntryPoint),
    (verdict, rule): (&str, Option<&str>),
    event: &Value,
    wrong: &mut Wrong,
) {
    let granted = verdict == "allow" && way.grantable && env.grants();
    for (field, value) in [
        ("verdict", json!(verdict)),
        ("rule", json!(rule)),
        ("uid", json!(actor.uid)),
        ("euid", json!(actor.euid)),
        ("granted", json!(granted)),
        ("protocol", json!(way.protocol)),
        ("count", json!(1)),
    ] {
        wrong.unless(event[field] == value, || {
            format!(
                "{}, {}: {field} is not {value}: {event}",
                actor.name, way.name
            )
        });
    }
}
