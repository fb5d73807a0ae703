//! Reads the policy beside the loop: looking up its users and groups, compiling and comparing it may take a while.

use super::confined_job::{self, Job};
use crate::control::Reply;
use crate::loader::{CompiledPolicy, PolicyLoader};
use crate::policy_names::Resolved;
use crate::sandbox::Sandbox;
use portguard_policy::analysis::summary::summary;
use portguard_policy::policy::{Policy, PolicyFiles};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A policy to put in force.
pub(super) struct Successor {
    pub(super) fresh: CompiledPolicy,
    /// What it changes of the policy in force, in a line. That stays in force meanwhile: only jobs replace it.
    pub(super) changes: String,
}

impl Successor {
    fn of(fresh: CompiledPolicy, in_force: &Policy) -> Self {
        let changes = summary(in_force, &fresh.policy);
        Self { fresh, changes }
    }
}

/// What a job found.
pub(super) enum Read {
    /// The files as they are now.
    Files(Result<Successor, String>),
    /// The files in force, with names that mean other ids than before: which, and the policy.
    Accounts(Vec<String>, Result<Successor, String>),
    /// All names mean what they meant.
    Unchanged,
}

/// A client that waits for the result of a reload.
pub(super) type Waiting = oneshot::Sender<Reply>;

/// One job at a time; a reload that is asked for meanwhile comes after it, since files may have changed since they
/// were read.
pub(super) struct PolicyJob {
    sandbox: Sandbox,
    running: Option<Job<Read>>,
    /// Those who wait for the running job.
    waiting: Vec<Waiting>,
    /// Those who wait for the next one; `Some` where there is to be one.
    next: Option<Vec<Waiting>>,
    /// The running job reads files because they changed, and nobody asked for it.
    pub(super) by_change: bool,
}

impl PolicyJob {
    pub(super) const fn new(sandbox: Sandbox) -> Self {
        Self {
            sandbox,
            running: None,
            waiting: Vec::new(),
            next: None,
            by_change: false,
        }
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Remembers that the files are to be read after the running job.
    pub(super) fn read_next(&mut self, waiting: Option<Waiting>) {
        self.next.get_or_insert_default().extend(waiting);
    }

    /// Those who wait for a reload that has not begun; `None` where none is to begin.
    pub(super) fn take_next(&mut self) -> Option<Vec<Waiting>> {
        self.next.take()
    }

    /// Begins to read the files, and to compare them with the policy in force.
    pub(super) fn read(
        &mut self,
        loader: PolicyLoader,
        before: Resolved,
        in_force: Arc<Policy>,
        waiting: Vec<Waiting>,
    ) {
        self.waiting = waiting;
        self.start(move || {
            // Without colour: `status` and `reload` show the text too.
            let read = loader.read(&before, false);
            Read::Files(read.map(|fresh| Successor::of(fresh, &in_force)))
        });
    }

    fn start(&mut self, job: impl FnOnce() -> Read + Send + 'static) {
        let started = confined_job::start(&self.sandbox, Vec::new(), job);
        self.running = Some(started.unwrap_or_else(|error| {
            let (result, waiting) = oneshot::channel();
            // It waits right here.
            let _ = result.send(Read::Files(Err(format!(
                "the policy cannot be read: cannot start a thread for it: {error}; raise the limit of tasks\n"
            ))));
            waiting
        }));
    }

    /// Begins to look up the names again.
    pub(super) fn read_accounts(
        &mut self,
        loader: PolicyLoader,
        sources: Arc<PolicyFiles>,
        before: Resolved,
        in_force: Arc<Policy>,
        late: usize,
    ) {
        self.start(move || match loader.read_accounts(sources, &before, late) {
            Some((names, read)) => {
                Read::Accounts(names, read.map(|fresh| Successor::of(fresh, &in_force)))
            }
            None => Read::Unchanged,
        });
    }

    /// Waits for the job, forever where none runs. Returns those who wait for its result too.
    pub(super) async fn finished(&mut self) -> (Read, Vec<Waiting>) {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let ended = running.await;
        self.running = None;
        let read = ended.unwrap_or_else(|error| {
            // The panic hook has logged it.
            Read::Files(Err(format!("the policy cannot be read: {error}\n")))
        });
        (read, std::mem::take(&mut self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account_lookup::AccountLookup;

    #[test]
    fn job_compares_what_it_read_with_the_policy_in_force() {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = directory.path().join("p.yaml");
        let text = "version: 1\nprotect: [80]\nrules: [{ name: a, action: deny }]\n";
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{error}"));
        let loader = PolicyLoader {
            paths: vec![path],
            mode: None,
            insecure_permissions: true,
            accounts: AccountLookup::start().unwrap_or_else(|error| panic!("{error}")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        let (read, _) = runtime.block_on(async {
            let mut job = PolicyJob::new(Sandbox::off());
            job.read(loader, Resolved::new(), Arc::default(), Vec::new());
            job.finished().await
        });
        let Read::Files(Ok(successor)) = read else {
            panic!("not read");
        };
        assert_eq!(
            successor.changes,
            "rules +1, ports no longer protected: 1-79,81-1023; weaker than before"
        );
        assert_eq!(successor.fresh.policy.rules.len(), 1);
    }
}
