//! What the daemon answers to who asks over its socket.

use super::Daemon;
use crate::control::{PendingRequest, Reply, Request};
use crate::kernel::{KernelError, release_text};
use crate::status::{self, Enforcing, Status};

impl Daemon<'_> {
    /// Answers. Who has gone meanwhile goes without.
    pub(super) fn answer(&mut self, ask: PendingRequest) {
        let reply = match ask.request {
            Request::Status => self.status().map(|status| Reply::Status(Box::new(status))),
            Request::Reload => Ok(self.reloaded()),
            Request::Detach => self.enforcer.detach().map(|()| {
                self.detached = true;
                Reply::Detached
            }),
            // The server's own.
            Request::Monitor { .. } => return,
        };
        let failed = |error: KernelError| Reply::Failed {
            error: error.to_string(),
        };
        let _ = ask.answer.send(reply.unwrap_or_else(failed));
    }

    fn reloaded(&mut self) -> Reply {
        match self.reload() {
            Ok(warnings) => Reply::Reloaded {
                policy: self.policy_hash(),
                warnings,
            },
            Err(error) => Reply::Failed { error },
        }
    }

    /// How it stands.
    fn status(&self) -> Result<Status, KernelError> {
        let counts = self.enforcer.counts()?;
        let policy = self.enforcer.description().map(|of| of.policy.clone());
        let problems = self.health.problems.clone();
        let dropped = counts
            .dropped_by_reason()
            .into_iter()
            .chain(self.dispatch.dropped());
        Ok(Status {
            enforcing: Enforcing::of(policy.as_ref(), &problems),
            hook: Some(self.enforcer.hook()),
            daemon: Some(status::DaemonStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                since: self.since.clone(),
                uptime: self.began.elapsed().as_secs(),
            }),
            kernel: release_text(),
            policy,
            rules: self.enforcer.hits()?,
            decisions: counts.decisions,
            dropped: dropped.collect(),
            reloads: Some(self.reloads.clone()),
            pins: self.enforcer.pinned_in(),
            problems,
            reattached: self.health.reattached,
            violations: self.violations,
        })
    }
}
