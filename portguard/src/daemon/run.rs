//! A run from start to end: the policy is installed, the loop runs, the programs are detached.

use super::error::{DaemonError, system};
use super::event_loop::run_until_shutdown;
use super::options::{Ended, Options};
use super::signals::Signals;
use super::state::Daemon;
use crate::kernel::{Enforcer, Environment};
use crate::loader::{CompiledPolicy, PolicyLoader, release_memory};
use crate::metrics;
use portguard_policy::policy::Scope;
use std::os::fd::AsFd as _;
use tokio::sync::mpsc;

/// Descriptors that the loop, the file watcher and the ring buffer take, and some for clients.
const DESCRIPTORS: usize = 24;

/// Requests that may wait for the loop.
const REQUESTS: usize = 16;

/// Installs `fresh` and reports decisions until SIGINT or SIGTERM; then detaches, unless the programs are
/// pinned.
///
/// `ready` is called once everything is in place. SIGHUP reads `loader` again; a policy that is broken, or that
/// the kernel does not take, changes nothing.
pub fn run(
    enforcer: Enforcer,
    environment: &Environment,
    loader: PolicyLoader,
    fresh: CompiledPolicy,
    mut options: Options,
    ready: impl FnOnce(),
) -> Result<Ended, DaemonError> {
    reserve_descriptors().map_err(DaemonError::Descriptors)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the event loop"))?;
    let ended = runtime.block_on(async {
        let signals = Signals::new()?;
        // Before the policy, which may protect that very port.
        let metrics = match &options.metrics {
            Some(address) => Some(metrics::listen(address, options.metrics_group)?),
            None => None,
        };
        let server = options.server.take();
        let (check_every, rules) = (options.check_every, options.metrics_rules);
        let mut daemon = Daemon::start(enforcer, environment, loader, &fresh, options)?;
        daemon.install(&fresh)?;
        daemon.enforcer.pin()?;
        daemon.policy.keep_first(&fresh);
        let enters_namespaces = fresh.policy.scope == Scope::All;
        daemon.sandbox.drop_capabilities(enters_namespaces);
        daemon.existing.scan(fresh);
        let (sender, mut requests) = mpsc::channel(REQUESTS);
        if let Some(server) = server {
            tokio::spawn(server.serve(sender.clone(), daemon.events.monitors()));
        }
        if let Some(listener) = metrics {
            tokio::spawn(metrics::serve(listener, sender.clone(), rules));
        }
        release_memory();
        ready();
        daemon.manager.ready(&daemon.status_line());
        run_until_shutdown(&mut daemon, signals, &mut requests, check_every).await?;
        daemon.end().await
    });
    // A look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    ended
}

/// Fails early where descriptors are short: tokio panics without one for its signals.
fn reserve_descriptors() -> std::io::Result<()> {
    let stderr = std::io::stderr();
    let reserved: Result<Vec<_>, _> = (0..DESCRIPTORS)
        .map(|_| stderr.as_fd().try_clone_to_owned())
        .collect();
    reserved.map(drop)
}
