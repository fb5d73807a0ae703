//! The event loop: one thread that waits for signals, file changes, kernel records and requests.

use super::error::{DaemonError, system};
use super::pulse::Pulse;
use super::requests::answer;
use super::signals::{Signals, at, flush, next_tick};
use super::state::Daemon;
use crate::control::PendingRequest;
use crate::kernel::watch_faults;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::interval;

/// Runs the daemon until a signal or `detach` ends it.
pub(super) async fn run_until_shutdown(
    daemon: &mut Daemon<'_>,
    mut signals: Signals,
    requests: &mut mpsc::Receiver<PendingRequest>,
    check_every: Duration,
) -> Result<(), DaemonError> {
    let on_terminal = std::io::stdout().is_terminal();
    let faults = daemon.enforcer.fault_log().map(watch_faults).transpose();
    let mut faults = faults.map_err(system("watch the programs' log"))?;
    let check = Pulse::new(check_every).map_err(system("make a timer"))?;
    let mut watchdog = daemon.manager.watchdog_period().map(interval);
    while !daemon.detached {
        let behind = daemon.events.is_behind();
        let window_end = daemon.events.window_end();
        tokio::select! {
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.hangup.recv() => {
                // The kernel sends it too when the terminal, and the shell behind it, is gone.
                if on_terminal && !std::io::stdout().is_terminal() {
                    return Ok(());
                }
                // A failure is logged, and stays in the status.
                daemon.reload(None);
            }
            _ = signals.reopen.recv() => daemon.events.reopen_sinks(),
            () = daemon.policy.changed() => daemon.reload_changed(),
            () = daemon.accounts.due() => daemon.look_up_accounts(),
            (read, waiting) = daemon.job.finished() => daemon.on_policy(read, waiting),
            found = daemon.existing.scanned() => daemon.existing.on_inventory(found, &daemon.sandbox),
            result = daemon.events.readable() => result.map_err(system("watch the ring buffer"))?,
            () = std::future::ready(()), if behind => daemon.events.drain(),
            () = at(window_end) => daemon.events.end_window(&mut daemon.enforcer)?,
            () = check.tick() => daemon.check_hooks(),
            () = next_tick(&mut watchdog) => daemon.manager.watchdog(),
            Some(request) = requests.recv() => answer(daemon, request),
            () = flush(&mut faults) => {}
        }
    }
    Ok(())
}
