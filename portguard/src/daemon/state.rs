//! The daemon's parts, and the steps that take several of them.

use super::error::DaemonError;
use super::event_pump::EventPump;
use super::existing_sockets::ExistingSockets;
use super::health::HealthMonitor;
use super::options::{Ended, Options};
use super::policy_state::PolicyState;
use crate::kernel::{Enforcer, Environment, KernelError};
use crate::loader::{CompiledPolicy, PolicyLoader, release_memory};
use crate::status::{self, DaemonStatus};
use crate::stderr::log_line;
use crate::systemd::Manager;
use std::time::{Duration, Instant};

/// How long the end waits for a sink whose reader does not read.
const SINK_TIMEOUT: Duration = Duration::from_secs(2);

/// The daemon.
pub(super) struct Daemon<'a> {
    pub(super) enforcer: Enforcer,
    environment: &'a Environment,
    pub(super) policy: PolicyState,
    pub(super) events: EventPump,
    pub(super) health: HealthMonitor,
    pub(super) existing: ExistingSockets,
    pub(super) manager: Manager,
    /// Enforcement was ended by a request.
    pub(super) detached: bool,
    started: Instant,
    since: String,
}

impl<'a> Daemon<'a> {
    pub(super) fn start(
        mut enforcer: Enforcer,
        environment: &'a Environment,
        loader: PolicyLoader,
        fresh: &CompiledPolicy,
        options: Options,
    ) -> Result<Self, DaemonError> {
        let policy = PolicyState::new(loader, fresh.fingerprint);
        let cgroup_root = &environment.cgroup_root;
        let events = EventPump::start(&mut enforcer, cgroup_root, options.sinks, options.fold)?;
        Ok(Self {
            enforcer,
            environment,
            policy,
            events,
            health: HealthMonitor::default(),
            existing: ExistingSockets::new(options.enforce_existing, environment.host_netns),
            manager: Manager::from_environment(),
            detached: false,
            started: Instant::now(),
            since: status::now(),
        })
    }

    /// Puts a policy in force.
    pub(super) fn install(&mut self, fresh: &CompiledPolicy) -> Result<(), KernelError> {
        let number = self.enforcer.next_generation();
        self.events
            .register_policy(&fresh.description.numbered(number));
        self.enforcer.install(&fresh.tables, &fresh.description)
    }

    /// Reloads the policy from its files, atomically. Returns its warnings, or why it was not installed.
    ///
    /// Reading and compiling block the loop. Even 4,096 rules with 65,536 users take less than 250 ms, in which the
    /// kernel decides as before and the ring buffer holds the events.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        self.manager.reloading();
        let fresh = self.policy.read();
        let result = fresh.and_then(|fresh| {
            crate::stderr::text(&fresh.warnings);
            self.install(&fresh)
                .map_err(|error| format!("{}\n", error.with_fix()))?;
            let warnings = fresh.warnings.clone();
            self.existing.scan(fresh);
            Ok(warnings)
        });
        self.policy.record(&result);
        match &result {
            Ok(_) => log_line!("portguard: policy {} is in force", self.policy_hash()),
            Err(error) => {
                crate::stderr::text(error);
                log_line!(
                    "portguard: reload failed, keeping the previous policy: fix the files and reload again"
                );
            }
        }
        release_memory();
        self.manager.ready(&self.status_line());
        result
    }

    /// Checks the hooks, and tells the service manager what changed.
    pub(super) fn check_hooks(&mut self) {
        if !self.health.check(&mut self.enforcer, self.environment) {
            return;
        }
        match self.health.problems().first() {
            Some(problem) => self.manager.degraded(problem),
            None => self.manager.recovered(&self.status_line()),
        }
    }

    /// The state in one line, for the service manager.
    pub(super) fn status_line(&self) -> String {
        let hook = self.enforcer.hook();
        let policy = self.policy_hash();
        let reload = match &self.policy.reloads().error {
            Some(_) => "; the last reload failed: see the log",
            None => "",
        };
        let degraded = match self.health.problems().first() {
            Some(problem) => format!("degraded: {problem}; "),
            None => String::new(),
        };
        format!("{degraded}policy {policy} in force, hook {hook}{reload}")
    }

    /// The hash of the policy in force, as in events.
    pub(super) fn policy_hash(&self) -> String {
        let description = self.enforcer.description();
        description.map_or_else(String::new, |of| of.policy.hash.clone())
    }

    /// This process, for the status.
    pub(super) fn process(&self) -> DaemonStatus {
        DaemonStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since.clone(),
            uptime: self.started.elapsed().as_secs(),
        }
    }

    /// Ends enforcement, unless it is pinned, and reports what was decided until now.
    pub(super) async fn end(mut self) -> Result<Ended, DaemonError> {
        self.manager.stopping();
        let pinned = self.enforcer.is_pinned();
        if !pinned {
            self.enforcer.detach()?;
        }
        // The window's events follow those of the ring, so the ring is drained first.
        self.events.drain_all().await;
        self.events.end_window(&mut self.enforcer)?;
        self.events.drain_all().await;
        let dropped = self.events.close(SINK_TIMEOUT);
        Ok(Ended {
            counts: self.enforcer.counts()?,
            dropped,
            pinned,
        })
    }
}
