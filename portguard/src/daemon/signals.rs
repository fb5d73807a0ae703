//! The signals of the daemon, and waits for timers and channels that are optional.

use super::error::{DaemonError, system};
use crate::kernel::FaultLog;
use std::time::Instant;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the daemon handles.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    pub(super) hangup: Signal,
    pub(super) reopen: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, DaemonError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(system("handle SIGINT"))?,
            terminate: signal(SignalKind::terminate()).map_err(system("handle SIGTERM"))?,
            hangup: signal(SignalKind::hangup()).map_err(system("handle SIGHUP"))?,
            reopen: signal(SignalKind::user_defined1()).map_err(system("handle SIGUSR1"))?,
        })
    }
}

/// Waits until a moment, forever where there is none.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the next tick, forever without a timer.
pub(super) async fn next_tick(pulse: &mut Option<tokio::time::Interval>) {
    match pulse {
        Some(pulse) => {
            pulse.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Forwards the eBPF programs' log; waits forever where there is none.
pub(super) async fn flush(faults: &mut Option<AsyncFd<FaultLog>>) {
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
