//! Time: the clock jumps, the daemon is stopped.

use crate::harness::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::events::decisions;
use crate::harness::foreign_links;
use crate::harness::frozen::Frozen;
use crate::harness::instance::Instance;
use crate::harness::{Needs, TestEnv};
use crate::scenarios::checks::errno_of;
use crate::scenarios::pins::{POLICY, PinCleanup, denied, directory, enforced};
use anyhow::{Context as _, ensure};
use portguard::status::now;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::cell::Cell;

pub(super) const TESTS: Table = &[
    ("fault_clock_jumps", Needs::Guest, fault_clock_jumps),
    ("fault_stopped", Needs::Guest, fault_stopped),
];

const HOUR: i64 = 3_600;

/// The offset of the changed system clock, undone when dropped.
#[derive(Default)]
struct Clock(i64);

impl Clock {
    fn set_by(&mut self, seconds: i64) -> anyhow::Result<()> {
        let now = clock_gettime(ClockId::Realtime);
        let tv_sec = now.tv_sec + seconds;
        clock_settime(ClockId::Realtime, Timespec { tv_sec, ..now })?;
        self.0 += seconds;
        Ok(())
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Err(error) = self.set_by(-self.0) {
            eprintln!("the clock: {error:#}");
        }
    }
}

fn fault_clock_jumps(env: &TestEnv) -> anyhow::Result<()> {
    let _cleanup = PinCleanup;
    let hook = env.auto_hook();
    let arguments = ["--pin", "--check-every", "1"];
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    let pin = directory()?.join("link_bind4");
    let mut clock = Clock::default();
    for (reloads, jump) in [(1, HOUR), (2, -2 * HOUR)] {
        clock.set_by(jump)?;
        let before = now();
        let ended = BindLoad::start(6, 81, 5).join()?;
        ensure!(ended.get(&env.denial(hook)) == Some(&5), "{ended:?}");
        // The first event comes at once, the others when its window ends.
        let mut count = 0;
        while count < 5 {
            let event = instance.next_event(|event| event["protocol"] == "udp")?;
            count += event["count"].as_u64().context("count")?;
            let time = event["time"].as_str().and_then(|time| time.get(..19));
            let time = time.context("a time")?;
            ensure!(
                before[..19] <= *time && *time <= now()[..19],
                "{time} is not between {before} and {}",
                now()
            );
        }
        ensure!(count == 5, "{count} of 5 binds reported");
        foreign_links::detach(&pin)?;
        instance.wait_for("hooks re-attached")?;
        // Another file with the same rules.
        instance.change(&format!("{POLICY}# {reloads}\n"))?;
        instance.wait_for("is in force")?;
        let status = instance.status()?;
        let uptime = status["daemon"]["uptime"].as_u64().context("uptime")?;
        ensure!(
            uptime < HOUR.cast_unsigned() && status["reloads"]["done"] == reloads,
            "{status}"
        );
        enforced(env, hook)?;
    }
    instance.stop()?;
    Ok(())
}

fn fault_stopped(env: &TestEnv) -> anyhow::Result<()> {
    const BINDS: u64 = 20_000;
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &[])?;
    {
        let _frozen = Frozen::new(&instance)?;
        let ended = BindLoad::start(7, 81, BINDS).join()?;
        ensure!(
            ended.get(&env.denial(instance.hook)) == Some(&BINDS),
            "{ended:?}"
        );
        enforced(env, instance.hook)?;
    }
    // It catches up by itself. Aggregates may come before the first event of their kind, so all are added up.
    let passed = Cell::new(0);
    instance.next_event(|event| {
        let count = event["count"].as_u64().unwrap_or(0);
        if event["verdict"] == "deny" {
            passed.set(passed.get() + count);
        }
        count > BINDS - 10
    })?;
    let actual = errno_of(&denied())?;
    ensure!(actual == env.denial(instance.hook), "errno {actual}");
    let ended = instance.stop()?;
    let deny = passed.get() + decisions(&ended.stdout, Some("deny"))?;
    ensure!(
        ended.dropped()? == 0 && deny == BINDS + 2,
        "{deny} of {} reported: {}",
        BINDS + 2,
        ended.stderr
    );
    Ok(())
}
