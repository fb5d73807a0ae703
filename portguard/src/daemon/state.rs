//! The daemon's parts, and the steps that take several of them.

use super::account_watcher::AccountWatcher;
use super::error::DaemonError;
use super::event_pump::EventPump;
use super::existing_sockets::ExistingSockets;
use super::health::HealthMonitor;
use super::options::{Ended, Options};
use super::policy_job::{PolicyJob, Read, Successor, Waiting};
use super::policy_saver::PolicySaver;
use super::policy_state::{PolicyState, Reloaded};
use super::process_usage::process_usage;
use crate::control::Reply;
use crate::kernel::{Enforcer, Environment, KernelError};
use crate::loader::{CompiledPolicy, PolicyLoader, release_memory};
use crate::sandbox::Sandbox;
use crate::status::{self, DaemonStatus};
use crate::stderr::log_line;
use crate::systemd::Manager;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the end waits for a sink whose reader does not read.
const SINK_TIMEOUT: Duration = Duration::from_secs(2);

/// The daemon.
pub(super) struct Daemon<'a> {
    pub(super) enforcer: Enforcer,
    environment: &'a Environment,
    pub(super) policy: PolicyState,
    pub(super) job: PolicyJob,
    pub(super) accounts: AccountWatcher,
    pub(super) events: EventPump,
    pub(super) health: HealthMonitor,
    pub(super) existing: ExistingSockets,
    pub(super) manager: Manager,
    pub(super) sandbox: Sandbox,
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
        let accounts = loader.accounts.clone();
        let policy = PolicyState::new(
            loader,
            fresh,
            options.watch,
            PolicySaver::new(options.store, options.sandbox.clone()),
            options.fallback,
        );
        let cgroup_root = &environment.cgroup_root;
        let mut events = EventPump::start(&mut enforcer, cgroup_root, options.sinks, options.fold)?;
        events.look_up_by(accounts);
        Ok(Self {
            enforcer,
            environment,
            policy,
            job: PolicyJob::new(options.sandbox.clone()),
            sandbox: options.sandbox,
            accounts: AccountWatcher::open(),
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
        self.enforcer
            .install(&fresh.tables, &fresh.memo, &fresh.description)
    }

    /// Begins to reload the policy from its files; `waiting` gets the result.
    pub(super) fn reload(&mut self, waiting: Option<Waiting>) {
        if self.job.is_running() {
            return self.job.read_next(waiting);
        }
        self.begin_reload(waiting.into_iter().collect());
    }

    /// Begins to reload since the files have changed.
    pub(super) fn reload_changed(&mut self) {
        let is_running = self.job.is_running();
        self.reload(None);
        self.job.by_change |= !is_running;
    }

    fn begin_reload(&mut self, waiting: Vec<Waiting>) {
        self.manager.reloading();
        self.policy.tried();
        self.job.by_change = false;
        let (loader, names) = (self.policy.loader.clone(), self.policy.names.clone());
        let in_force = self.policy.in_force();
        self.job.read(loader, names, in_force, waiting);
    }

    /// Begins to look up the names of the policy in force again.
    pub(super) fn look_up_accounts(&mut self) {
        self.events.forget_names();
        // A reload looks up all names.
        if self.job.is_running() || self.policy.names.is_empty() {
            return;
        }
        let policy = &self.policy;
        let (loader, sources) = (policy.loader.clone(), Arc::clone(&policy.sources));
        let (names, in_force) = (policy.names.clone(), policy.in_force());
        self.job
            .read_accounts(loader, sources, names, in_force, policy.late);
    }

    /// Puts in force what a job has read, atomically.
    pub(super) fn on_policy(&mut self, read: Read, waiting: Vec<Waiting>) {
        match read {
            // A writer began after the change had settled: its half of a file may have been read.
            Read::Files(_) if self.job.by_change && !self.policy.is_whole() => {
                self.manager.ready(&self.status_line());
            }
            Read::Files(fresh) => self.finish_reload(fresh, waiting),
            Read::Accounts(changes, fresh) => self.on_accounts(&changes, fresh),
            Read::Unchanged => {}
        }
        if let Some(waiting) = self.job.take_next() {
            self.begin_reload(waiting);
        }
    }

    fn finish_reload(&mut self, fresh: Result<Successor, String>, waiting: Vec<Waiting>) {
        let result = fresh.and_then(|fresh| self.replace(fresh));
        self.policy.record(&result);
        match &result {
            Ok(done) => log_line!(
                "portguard: policy {}, revision {}, is in force: {}",
                self.policy_hash(),
                self.policy_revision(),
                done.changes
            ),
            Err(error) => {
                crate::stderr::text(error);
                log_line!(
                    "portguard: reload failed, keeping the previous policy: fix the files and reload again"
                );
            }
        }
        release_memory();
        self.manager.ready(&self.status_line());
        for client in waiting {
            let reply = match result.clone() {
                Ok(Reloaded { warnings, changes }) => Reply::Reloaded {
                    policy: self.policy_hash(),
                    warnings,
                    changes,
                },
                Err(error) => Reply::Failed { error },
            };
            // A client that has gone misses its reply.
            let _ = client.send(reply);
        }
    }

    /// The accounts have changed: the policy in force is compiled again, whatever its files are now.
    fn on_accounts(&mut self, changes: &[String], fresh: Result<Successor, String>) {
        match fresh.and_then(|fresh| self.replace(fresh)) {
            Ok(done) => log_line!(
                "portguard: accounts have changed ({}): policy {} is in force: {}",
                summed_up(changes),
                self.policy_hash(),
                done.changes
            ),
            Err(error) => {
                crate::stderr::text(&error);
                log_line!(
                    "portguard: accounts have changed ({}), and the policy is not in force for them; will retry",
                    summed_up(changes)
                );
            }
        }
        release_memory();
        self.manager.status(&self.status_line());
    }

    /// Puts `fresh` in place of the policy in force; the error says why it was not installed.
    fn replace(&mut self, Successor { fresh, changes }: Successor) -> Result<Reloaded, String> {
        crate::stderr::text(&fresh.warnings);
        self.install(&fresh)
            .map_err(|error| format!("{}\n", error.with_fix()))?;
        self.policy.installed(&fresh);
        self.policy.keep(&fresh);
        let warnings = fresh.warnings.clone();
        self.existing.scan(fresh);
        Ok(Reloaded { warnings, changes })
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
        let reload = match (self.policy.fallback(), &self.policy.reloads().error) {
            (Some(_), _) => "; the policy's files are broken: see the log",
            (None, Some(_)) => "; the last reload failed: see the log",
            (None, None) => "",
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

    /// The revision of its files, as in events.
    fn policy_revision(&self) -> &str {
        let description = self.enforcer.description();
        description.map_or("", |of| of.policy.revision.as_str())
    }

    /// This process, for the status.
    pub(super) fn process(&self) -> DaemonStatus {
        DaemonStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since.clone(),
            uptime: self.started.elapsed().as_secs(),
            usage: process_usage(),
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
        self.policy.kept().await;
        let dropped = self.events.close(SINK_TIMEOUT);
        Ok(Ended {
            counts: self.enforcer.counts()?,
            dropped,
            pinned,
        })
    }
}

/// The first changes, and how many more there are.
fn summed_up(changes: &[String]) -> String {
    const SHOWN: usize = 5;
    if changes.is_empty() {
        return "names that were late are looked up".to_owned();
    }
    let shown = changes.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    match changes.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}
