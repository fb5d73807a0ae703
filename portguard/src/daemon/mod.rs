//! The running enforcer: one loop that reads what the kernel reports, answers who asks, and watches over the
//! hooks until a signal ends it.

mod event_dispatch;
mod existing_sockets;
mod health;
mod policy_watcher;
mod requests;
mod signals;

use crate::control::{PendingRequest, Server};
use crate::events::Enricher;
use crate::events::cgroup_paths::CgroupPaths;
use crate::events::sinks::Sinks;
use crate::kernel::{
    Counts, Enforcer, Environment, FaultLog, KernelError, Records, watch, watch_faults,
};
use crate::loader::{CompiledPolicy, PolicyLoader};
use crate::memory;
use crate::metrics::{self, MetricsError};
use crate::status::{self, Reloads};
use crate::stderr::log_line;
use crate::systemd::Manager;
use event_dispatch::EventDispatch;
use existing_sockets::{Scan, scanned};
use health::HealthMonitor;
use policy_watcher::PolicyWatcher;
use signals::{Signals, at, flush, next_tick};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// How long the end waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long equal decisions are folded.
const WINDOW: Duration = Duration::from_secs(1);

/// Descriptors that the loop, the eye on the files and the ring buffer take, and some to answer with.
const DESCRIPTORS: usize = 24;

/// Questions that may wait for the loop.
const ASKS: usize = 16;

/// Why the daemon stopped other than by a signal.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The metrics' address.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Too few descriptors to begin with.
    #[error("cannot open the descriptors that the event loop needs: {0}")]
    Descriptors(#[source] std::io::Error),
    /// The system refused a thread, a signal handler or a descriptor.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// What the command line wants of the daemon.
pub struct Options {
    /// Where decisions go.
    pub sinks: Sinks,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Whether sockets that were there before are closed where the policy denies them.
    pub enforce_existing: bool,
    /// Whether equal decisions of a second are one event.
    pub fold: bool,
    /// How often the hooks are looked after.
    pub check_every: Duration,
    /// The socket; `None` where it could not be had.
    pub server: Option<Server>,
}

/// What a run has done.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The kernel's counters.
    pub counts: Counts,
    /// Decisions that the reader of the output was too slow for.
    pub dropped: u64,
    /// Whether enforcement goes on by its pins.
    pub pinned: bool,
}

/// Puts `fresh` in force and reports decisions until SIGINT or SIGTERM; then detaches, unless the programs are
/// pinned.
///
/// `ready` is called once everything is in place. SIGHUP reads `source` again; where its policy is broken, or the
/// kernel does not take it, the one before stays in force.
///
/// # Errors
/// Where the policy cannot be installed or the system refuses what the loop needs.
pub fn run(
    enforcer: Enforcer,
    environment: &Environment,
    source: PolicyLoader,
    fresh: CompiledPolicy,
    mut options: Options,
    ready: impl FnOnce(),
) -> Result<Ended, DaemonError> {
    reserve_descriptors().map_err(DaemonError::Descriptors)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the event loop"))?;
    runtime.block_on(async {
        let signals = Signals::new()?;
        // Before the policy, which may protect that very port.
        let metrics = match options.metrics {
            Some(address) => Some(metrics::listen(address).await?),
            None => None,
        };
        let server = options.server.take();
        let mut daemon = Daemon::start(enforcer, environment, source, &fresh, options)?;
        daemon.install(&fresh)?;
        daemon.enforcer.pin()?;
        daemon.scan_existing_sockets(fresh);
        let (asks, mut asked) = mpsc::channel(ASKS);
        if let Some(server) = server {
            tokio::spawn(server.serve(asks.clone(), daemon.dispatch.events.clone()));
        }
        if let Some(listener) = metrics {
            tokio::spawn(metrics::serve(listener, asks.clone()));
        }
        memory::give_back();
        ready();
        daemon.manager.ready(&daemon.status_line());
        daemon.run_until_shutdown(signals, &mut asked).await?;
        daemon.end().await
    })
}

/// Sees to it that there are descriptors for the event loop, which panics where it gets none for its signals.
fn reserve_descriptors() -> std::io::Result<()> {
    let stderr = std::io::stderr();
    let reserved: Result<Vec<_>, _> = (0..DESCRIPTORS)
        .map(|_| stderr.as_fd().try_clone_to_owned())
        .collect();
    reserved.map(drop)
}

struct Daemon<'a> {
    enforcer: Enforcer,
    environment: &'a Environment,
    source: PolicyLoader,
    dispatch: EventDispatch,
    ring: AsyncFd<Records>,
    /// The ring has more than was read at once.
    behind: bool,
    faults: Option<AsyncFd<FaultLog>>,
    /// When the running window of folding ends, where it holds anything.
    window: Option<Instant>,
    health: HealthMonitor,
    reloads: Reloads,
    check_every: Duration,
    began: Instant,
    since: String,
    /// Somebody asked for the end of enforcement, and it has ended.
    detached: bool,
    manager: Manager,
    watcher: PolicyWatcher,
    /// A look for sockets that are older than the policy, while it lasts.
    scan: Option<Scan>,
    enforce_existing: bool,
    violations: Option<u64>,
}

impl<'a> Daemon<'a> {
    fn start(
        mut enforcer: Enforcer,
        environment: &'a Environment,
        source: PolicyLoader,
        fresh: &CompiledPolicy,
        options: Options,
    ) -> Result<Self, DaemonError> {
        let watcher = PolicyWatcher::open(&source.paths, fresh.fingerprint);
        let paths = CgroupPaths::new(&environment.cgroup_root);
        let mut enricher = Enricher::new(enforcer.features(), paths);
        if let Some(earlier) = enforcer.description() {
            enricher.register_policy(earlier);
        }
        let mut dispatch = EventDispatch::new(enricher, options.sinks);
        let records = enforcer.records()?;
        let ring = watch(records).map_err(system("watch the ring buffer"))?;
        let faults = enforcer.fault_log().map(watch_faults).transpose();
        let faults = faults.map_err(system("watch the programs' log"))?;
        let window = if options.fold {
            enforcer.start_aggregation()?;
            // A daemon before this one may have left something.
            Some(Instant::now())
        } else {
            dispatch.take(enforcer.stop_aggregation()?);
            None
        };
        Ok(Self {
            enforcer,
            environment,
            source,
            dispatch,
            ring,
            behind: true,
            faults,
            window,
            health: HealthMonitor::default(),
            reloads: Reloads::default(),
            check_every: options.check_every,
            began: Instant::now(),
            since: status::now(),
            detached: false,
            manager: Manager::from_environment(),
            watcher,
            scan: None,
            enforce_existing: options.enforce_existing,
            violations: None,
        })
    }

    /// Puts a policy in force.
    fn install(&mut self, fresh: &CompiledPolicy) -> Result<(), KernelError> {
        let number = self.enforcer.next_generation();
        let description = fresh.description.numbered(number);
        self.dispatch.enricher.register_policy(&description);
        self.enforcer.install(&fresh.tables, &fresh.description)
    }

    /// The loop, until a signal ends it.
    async fn run_until_shutdown(
        &mut self,
        mut signals: Signals,
        asked: &mut mpsc::Receiver<PendingRequest>,
    ) -> Result<(), DaemonError> {
        let on_terminal = std::io::stdout().is_terminal();
        let mut check = tokio::time::interval(self.check_every);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        check.tick().await;
        let mut pulse = self.manager.watchdog_period().map(tokio::time::interval);
        while !self.detached {
            tokio::select! {
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.terminate.recv() => return Ok(()),
                _ = signals.hangup.recv() => {
                    // The kernel sends it too where the terminal is gone, and with it whoever started us.
                    if on_terminal && !std::io::stdout().is_terminal() {
                        return Ok(());
                    }
                    // What failed is said and remembered.
                    let _ = self.reload();
                }
                _ = signals.reopen.recv() => self.dispatch.sinks.reopen(),
                () = self.watcher.changed() => {
                    let _ = self.reload();
                }
                found = scanned(&mut self.scan) => self.on_inventory(found),
                guard = self.ring.readable_mut(), if !self.behind => {
                    let mut guard = guard.map_err(system("watch the ring buffer"))?;
                    // Cleared first: what arrives while draining wakes us again.
                    guard.clear_ready();
                    self.behind = true;
                }
                () = std::future::ready(()), if self.behind => self.drain(),
                () = at(self.window) => self.end_window()?,
                _ = check.tick() => self.check(),
                () = next_tick(&mut pulse) => self.manager.watchdog(),
                Some(ask) = asked.recv() => self.answer(ask),
                () = flush(&mut self.faults) => {}
            }
        }
        Ok(())
    }

    /// Looks after the hooks, and tells the service manager what changed.
    fn check(&mut self) {
        let before = self.health.problems.clone();
        self.health.check(&mut self.enforcer, self.environment);
        match self.health.problems.first() {
            _ if self.health.problems == before => {}
            Some(problem) => self.manager.degraded(problem),
            None => self.manager.recovered(&self.status_line()),
        }
    }

    /// How it stands, in a line for the service manager.
    fn status_line(&self) -> String {
        let hook = self.enforcer.hook().as_str();
        let policy = self.policy_hash();
        let reload = match &self.reloads.error {
            Some(_) => "; the last reload failed: see the log",
            None => "",
        };
        let degraded = match self.health.problems.first() {
            Some(problem) => format!("degraded: {problem}; "),
            None => String::new(),
        };
        format!("{degraded}policy {policy} in force, hook {hook}{reload}")
    }

    /// Reports what the ring holds, a part at a time: under a flood others must have their turn.
    fn drain(&mut self) {
        let (reported, behind) = self.dispatch.drain(self.ring.get_mut());
        self.behind = behind;
        if reported && self.window.is_none() {
            self.window = Some(Instant::now() + WINDOW);
        }
    }

    /// Reports what was folded.
    fn end_window(&mut self) -> Result<(), KernelError> {
        self.window = None;
        let folded = self.enforcer.take_aggregates()?;
        self.behind |= !folded.is_empty();
        self.dispatch.take(folded);
        Ok(())
    }

    /// Puts the policy as its files are now in force, whole or not at all.
    fn reload(&mut self) -> Result<String, String> {
        self.manager.reloading();
        self.watcher.tried();
        // Without colour: it is shown in `status` and by `reload` too.
        let taken = self.source.read(false).and_then(|fresh| {
            crate::stderr::text(&fresh.warnings);
            self.install(&fresh)
                .map_err(|error| format!("{}\n", error.with_fix()))?;
            let warnings = fresh.warnings.clone();
            self.scan_existing_sockets(fresh);
            Ok(warnings)
        });
        self.reloads.last = Some(status::now());
        match &taken {
            Ok(_) => {
                self.reloads.done += 1;
                self.reloads.error = None;
                log_line!("portguard: policy {} is in force", self.policy_hash());
            }
            Err(error) => {
                self.reloads.failed += 1;
                self.reloads.error = Some(error.clone());
                crate::stderr::text(error);
                log_line!(
                    "portguard: reload failed, keeping the previous policy: mend the files and reload again"
                );
            }
        }
        memory::give_back();
        self.manager.ready(&self.status_line());
        taken
    }

    /// The name of the policy in force, as in events.
    fn policy_hash(&self) -> String {
        let description = self.enforcer.description();
        description.map_or_else(String::new, |of| of.policy.hash.clone())
    }

    /// Ends: what was decided until now is still reported.
    async fn end(mut self) -> Result<Ended, DaemonError> {
        self.manager.stopping();
        let pinned = self.enforcer.is_pinned();
        if !pinned {
            self.enforcer.detach()?;
        }
        // First what came before: the window's events follow those of the ring.
        for last in [false, true] {
            if last {
                self.end_window()?;
            }
            self.behind = true;
            while self.behind {
                self.drain();
                // Monitors, and who waits for an answer, have their turn.
                tokio::task::yield_now().await;
            }
        }
        let dropped = self.dispatch.close(PATIENCE);
        Ok(Ended {
            counts: self.enforcer.counts()?,
            dropped,
            pinned,
        })
    }
}
