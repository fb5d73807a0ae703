//! Every actor by every entry point to every kind of port, by each hook, against the tables.

use super::actors::{ACTORS, Actor};
use super::entry_points::{Coverage, ENTRY_POINTS, EntryPoint, Setup};
use super::policy::{POLICY, PORTS, port};
use super::run_actor::ActorBind;
use super::stage::Stage;
use crate::harness::TestEnv;
use crate::harness::instance::Instance;
use crate::harness::probe::BindResult;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// Binds that contradict the tables.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    /// Fails with the first few, and how many there are.
    fn none(self) -> anyhow::Result<()> {
        let first: Vec<&str> = self.0.iter().take(12).map(String::as_str).collect();
        ensure!(
            self.0.is_empty(),
            "{} failures: {}",
            self.0.len(),
            first.join("; ")
        );
        Ok(())
    }
}

pub(super) fn every_entry_point(env: &TestEnv) -> anyhow::Result<()> {
    ensure!(ENTRY_POINTS.len() < 100, "the ports of two rules overlap");
    let stage = Stage::build(env)?;
    let mut failures = Failures::default();
    let mut without = Vec::new();
    for (index, actor) in ACTORS.iter().enumerate() {
        let binds = stage.run(index).with_context(|| actor.name)?;
        for bind in &binds {
            check_without_portguard(env, actor, bind, &mut failures);
        }
        without.push(binds);
    }
    let mut count = 0;
    for hook in env.deciding_hooks() {
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        for (index, actor) in ACTORS.iter().enumerate() {
            let binds = stage.run(index).with_context(|| actor.name)?;
            let events = instance.events()?;
            let before = without.get(index).map_or(&[][..], Vec::as_slice);
            count += binds.len();
            check(env, hook, (actor, before), (&binds, &events), &mut failures);
        }
        instance.stop()?;
    }
    println!(
        "attack: {} actors, {} entry points, {count} binds",
        ACTORS.len(),
        ENTRY_POINTS.len()
    );
    failures.none()
}

/// Whether the tables are right about the kernel alone: which entry points it has, and who has the capability.
fn check_without_portguard(
    env: &TestEnv,
    actor: &Actor,
    bind: &ActorBind,
    failures: &mut Failures,
) {
    let Some(entry_point) = ENTRY_POINTS.get(bind.entry_point) else {
        return;
    };
    let exists = entry_point.is_in(env.kernel);
    // `TCP_REPAIR` needs CAP_NET_ADMIN when the socket is made.
    let admin = entry_point.setup != Setup::Repair || (actor.before.is_empty() && actor.uid == 0);
    match bind.result {
        BindResult::NoSocket(_) | BindResult::Unsupported(_) if !exists => {}
        BindResult::NoSocket(libc::EPERM) if !admin => {}
        BindResult::Bound(errno) if exists => {
            let expected = by_kernel(actor);
            failures.unless(errno == expected, || {
                format!(
                    "{}, {}: errno {errno}, expected {expected}, without portguard",
                    actor.name, entry_point.name
                )
            });
        }
        other => failures.0.push(format!(
            "{}, {}: {other:?} without portguard on {:?}",
            actor.name, entry_point.name, env.kernel
        )),
    }
}

const fn by_kernel(actor: &Actor) -> i32 {
    if actor.capable { 0 } else { libc::EACCES }
}

/// Compares an actor's binds and their events with the tables.
fn check(
    env: &TestEnv,
    hook: &str,
    (actor, before): (&Actor, &[ActorBind]),
    (binds, events): (&[ActorBind], &[Value]),
    failures: &mut Failures,
) {
    let mut reported = 0;
    for (bind, before) in binds.iter().zip(before) {
        let BindResult::Bound(errno) = bind.result else {
            // portguard adds and removes no sockets.
            failures.unless(bind.result == before.result, || {
                format!("{}, {bind:?} was {:?}", actor.name, before.result)
            });
            continue;
        };
        let (Some(entry_point), Some(ports)) =
            (ENTRY_POINTS.get(bind.entry_point), PORTS.get(bind.ports))
        else {
            continue;
        };
        let port = port(bind.entry_point, bind.ports);
        let decided = actor.host_netns && entry_point.coverage(hook) == Coverage::Decided;
        let (verdict, rule) = (ports.verdict)(actor);
        let expected = if decided {
            env.enforced(hook, verdict, entry_point.grantable, by_kernel(actor))
        } else {
            by_kernel(actor)
        };
        let name = || format!("{hook}: {}, {}, port {port}", actor.name, entry_point.name);
        failures.unless(errno == expected, || {
            format!("{}: errno {errno}, expected {expected}", name())
        });
        let own: Vec<&Value> = events
            .iter()
            .filter(|event| event["port"] == port && event["pid"] == bind.pid)
            .collect();
        reported += own.len();
        match (decided, &own[..]) {
            (false, []) => {}
            (true, [event]) => {
                check_event(env, (actor, entry_point), (verdict, rule), event, failures);
            }
            (_, other) => failures
                .0
                .push(format!("{}: {} events", name(), other.len())),
        }
    }
    failures.unless(reported == events.len(), || {
        format!(
            "{hook}: {}: {} events, {reported} of its binds",
            actor.name,
            events.len()
        )
    });
}

/// Whether an event says what was decided, and for whom.
fn check_event(
    env: &TestEnv,
    (actor, entry_point): (&Actor, &EntryPoint),
    (verdict, rule): (&str, Option<&str>),
    event: &Value,
    failures: &mut Failures,
) {
    let granted = verdict == "allow" && entry_point.grantable && env.grants();
    for (field, value) in [
        ("verdict", json!(verdict)),
        ("rule", json!(rule)),
        ("uid", json!(actor.uid)),
        ("euid", json!(actor.euid)),
        ("granted", json!(granted)),
        ("protocol", json!(entry_point.protocol)),
        ("count", json!(1)),
    ] {
        failures.unless(event[field] == value, || {
            format!(
                "{}, {}: {field} is not {value}: {event}",
                actor.name, entry_point.name
            )
        });
    }
}
