//! Answers the requests of the daemon's socket.

use super::state::Daemon;
use crate::control::{PendingRequest, Reply, Request};
use crate::kernel::{KernelError, release_text};
use crate::status::{Enforcing, Status};

/// Answers a request. A client that has gone misses its reply.
pub(super) fn answer(daemon: &mut Daemon<'_>, pending: PendingRequest) {
    let reply = match pending.request {
        Request::Status => status(daemon).map(|status| Reply::Status(Box::new(status))),
        Request::Reload => return daemon.reload(Some(pending.reply)),
        Request::Detach => daemon.enforcer.detach().map(|()| {
            daemon.detached = true;
            Reply::Detached
        }),
        // The server answers it.
        Request::Monitor { .. } => return,
    };
    let failed = |error: KernelError| Reply::Failed {
        error: error.to_string(),
    };
    let _ = pending.reply.send(reply.unwrap_or_else(failed));
}

fn status(daemon: &Daemon<'_>) -> Result<Status, KernelError> {
    let enforcer = &daemon.enforcer;
    let counts = enforcer.counts()?;
    let policy = enforcer.description().map(|of| of.policy.clone());
    let mut problems = daemon.health.problems().to_vec();
    // Of the hooks alone: what does not work of a policy does not stop the rest of it.
    let enforcing = Enforcing::of(policy.as_ref(), &problems);
    problems.extend(daemon.policy.problems().cloned());
    let in_kernel = counts.dropped_by_reason().into_iter();
    Ok(Status {
        enforcing,
        hook: Some(enforcer.hook()),
        daemon: Some(daemon.process()),
        kernel: release_text(),
        policy,
        rules: enforcer.hits()?,
        decisions: counts.decisions,
        dropped: in_kernel.chain(daemon.events.dropped()).collect(),
        events: Some(daemon.events.reported()),
        programs: enforcer.program_costs(),
        reloads: Some(daemon.policy.reloads().clone()),
        pins: enforcer.pinned_in(),
        problems,
        reattached: daemon.health.reattached(),
        fallback: daemon
            .policy
            .fallback()
            .map(|kind| kind.as_str().to_owned()),
        violations: daemon.existing.violations(),
        hardening: Some(daemon.sandbox.hardening()),
    })
}
