//! From the kernel's ring buffer and aggregation window to the readers.

use super::error::{DaemonError, system};
use super::event_dispatch::EventDispatch;
use crate::account_lookup::AccountLookup;
use crate::control::EventSender;
use crate::events::Enricher;
use crate::events::cgroup_paths::CgroupPaths;
use crate::events::sinks::Sinks;
use crate::kernel::{Enforcer, KernelError, Records, watch};
use crate::status::Description;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// How long equal decisions are aggregated.
const WINDOW: Duration = Duration::from_secs(1);

/// The ring buffer's end, the running window, and the way to the readers.
pub(super) struct EventPump {
    ring: AsyncFd<Records>,
    /// The ring has more than was read in one turn.
    behind: bool,
    /// When the running window ends; `None` where it holds nothing.
    window: Option<Instant>,
    dispatch: EventDispatch,
}

impl EventPump {
    pub(super) fn start(
        enforcer: &mut Enforcer,
        cgroup_root: &Path,
        sinks: Sinks,
        fold: bool,
    ) -> Result<Self, DaemonError> {
        let mut enricher = Enricher::new(enforcer.features(), CgroupPaths::new(cgroup_root));
        if let Some(earlier) = enforcer.description() {
            enricher.register_policy(earlier);
        }
        let mut dispatch = EventDispatch::new(enricher, sinks);
        let ring = watch(enforcer.records()?).map_err(system("watch the ring buffer"))?;
        let window = if fold {
            enforcer.start_aggregation()?;
            // An earlier daemon may have left events in it.
            Some(Instant::now())
        } else {
            dispatch.queue(enforcer.stop_aggregation()?);
            None
        };
        Ok(Self {
            ring,
            behind: true,
            window,
            dispatch,
        })
    }

    /// Looks up the names of users on the thread from now on.
    pub(super) fn look_up_by(&mut self, accounts: AccountLookup) {
        self.dispatch.look_up_by(accounts);
    }

    /// Forgets the names of users, which may have changed.
    pub(super) fn forget_names(&mut self) {
        self.dispatch.forget_names();
    }

    /// Makes the names of a policy known before it is in force.
    pub(super) fn register_policy(&mut self, description: &Description) {
        self.dispatch.register_policy(description);
    }

    /// Waits until the ring has records, forever where that is known already.
    pub(super) async fn readable(&mut self) -> std::io::Result<()> {
        if self.behind {
            return std::future::pending().await;
        }
        let mut guard = self.ring.readable_mut().await?;
        // Cleared first: what arrives while draining wakes us again.
        guard.clear_ready();
        self.behind = true;
        Ok(())
    }

    pub(super) const fn is_behind(&self) -> bool {
        self.behind
    }

    pub(super) const fn window_end(&self) -> Option<Instant> {
        self.window
    }

    /// Reports the ring's records, a part at a time: under a flood others must have their turn.
    pub(super) fn drain(&mut self) {
        let (decided, behind) = self.dispatch.drain(self.ring.get_mut());
        self.behind = behind;
        if decided && self.window.is_none() {
            self.window = Some(Instant::now() + WINDOW);
        }
    }

    /// Reports the ring's records, all of them.
    pub(super) async fn drain_all(&mut self) {
        self.behind = true;
        while self.behind {
            self.drain();
            // Monitors, and clients that wait for a reply, have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// Ends the window; the next [`Self::drain`] reports the decisions aggregated in it.
    pub(super) fn end_window(&mut self, enforcer: &mut Enforcer) -> Result<(), KernelError> {
        self.window = None;
        let aggregated = enforcer.take_aggregates()?;
        self.behind |= !aggregated.is_empty();
        self.dispatch.queue(aggregated);
        Ok(())
    }

    /// The way to the monitors.
    pub(super) fn monitors(&self) -> EventSender {
        self.dispatch.monitors()
    }

    pub(super) fn reopen_sinks(&mut self) {
        self.dispatch.reopen_sinks();
    }

    /// Events so far.
    pub(super) const fn reported(&self) -> u64 {
        self.dispatch.reported()
    }

    /// Decisions that the sinks dropped, by sink.
    pub(super) fn dropped(&self) -> BTreeMap<String, u64> {
        self.dispatch.dropped()
    }

    /// Waits until all is written, `timeout` at most. Returns how many decisions the sinks dropped.
    pub(super) fn close(&mut self, timeout: Duration) -> u64 {
        self.dispatch.close(timeout)
    }
}
