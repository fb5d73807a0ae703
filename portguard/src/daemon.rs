//! The running enforcer: wires kernel records to the sink until a signal ends it.

use crate::cgroups::CgroupPaths;
use crate::compile::Tables;
use crate::event::Enricher;
use crate::kernel::{
    Counts, Enforcer, Environment, FaultLog, KernelError, Record, Records, watch, watch_faults,
};
use crate::say::say;
use crate::sink::{Format, Sink};
use std::io::IsTerminal as _;
use std::time::Duration;
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

/// How long the end waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the daemon stopped other than by a signal.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
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

/// Puts `tables` in force and reports decisions until SIGINT or SIGTERM, then detaches.
///
/// `ready` is called once everything is in place. SIGHUP asks `reload` for another policy, compiled under the
/// number given; where it has none, or the kernel does not take it, the one before stays in force.
///
/// # Errors
/// Where the policy cannot be installed or the system refuses what the loop needs.
pub fn run(
    mut enforcer: Enforcer,
    environment: &Environment,
    tables: &Tables,
    format: Format,
    ready: impl FnOnce(),
    mut reload: impl FnMut(u16) -> Option<Tables>,
) -> Result<Ended, DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the event loop"))?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("handle SIGINT"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(system("handle SIGTERM"))?;
        let mut hangup = signal(SignalKind::hangup()).map_err(system("handle SIGHUP"))?;
        let records = enforcer.take_records()?;
        let faults = enforcer.fault_log();
        let sink = Sink::stdout(format).map_err(system("start the output thread"))?;
        let paths = CgroupPaths::new(&environment.cgroup_root);
        let mut reporter = Reporter {
            enricher: Enricher::new(tables, enforcer.features(), paths),
            sink,
        };
        let mut ring = watch(records).map_err(system("watch the ring buffer"))?;
        let faults = faults.map(watch_faults).transpose();
        let mut faults = faults.map_err(system("watch the programs' log"))?;
        let on_terminal = std::io::stdout().is_terminal();
        enforcer.install(tables)?;
        ready();
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => {
                    // The kernel sends it too where the terminal is gone, and with it whoever started us.
                    if on_terminal && !std::io::stdout().is_terminal() {
                        break;
                    }
                    if let Some(tables) = reload(enforcer.next_generation()) {
                        reporter.reload(&mut enforcer, &tables);
                    }
                }
                guard = ring.readable_mut() => {
                    let mut guard = guard.map_err(system("watch the ring buffer"))?;
                    // Cleared first: what arrives while draining wakes us again.
                    guard.clear_ready();
                    reporter.drain(guard.get_inner_mut());
                }
                () = flush(&mut faults) => {}
            }
        }
        enforcer.detach();
        reporter.drain(ring.get_mut());
        reporter.sink.close(PATIENCE);
        Ok(Ended {
            counts: enforcer.counts()?,
            unwritten: reporter.sink.dropped(),
        })
    })
}

/// What a run has done.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The kernel's counters.
    pub counts: Counts,
    /// Decisions that the reader of the output was too slow for.
    pub unwritten: u64,
}

struct Reporter {
    enricher: Enricher,
    sink: Sink,
}

impl Reporter {
    /// Puts another policy in force, or says why not.
    fn reload(&mut self, enforcer: &mut Enforcer, tables: &Tables) {
        self.enricher.expect(tables);
        match enforcer.install(tables) {
            Ok(()) => say!("portguard: policy {} is in force", tables.short_digest()),
            Err(error) => say!("portguard: reload failed, the policy before stays: {error}"),
        }
    }

    fn drain(&mut self, records: &mut Records) {
        while let Some(record) = records.next_record() {
            match record {
                Record::Decision(event) => {
                    let decided = self.enricher.enrich(&event);
                    self.sink.send(decided);
                }
                Record::Cgroup { id, path, missing } => {
                    self.enricher.cgroups.learn(id, &path, missing);
                }
            }
        }
    }
}

/// Hands the programs' own complaints to the log; never returns where there is no such channel.
async fn flush(faults: &mut Option<AsyncFd<FaultLog>>) {
    let Some(faults) = faults else {
        return std::future::pending().await;
    };
    match faults.readable_mut().await {
        Ok(mut guard) => {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
        Err(_) => std::future::pending().await,
    }
}
