//! Looks up users and groups on a thread of its own.
//!
//! A look-up may go over a network, and take as long as a server that does not answer. It must not hold up the
//! daemon's loop: each caller says how long to wait.

use crate::sandbox::{Role, Sandbox};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Look-ups that may wait for the thread.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The way to the thread. It ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct AccountLookup(SyncSender<Job>);

impl AccountLookup {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start() -> io::Result<Self> {
        Self::start_in(&Sandbox::off())
    }

    /// Starts the thread, confined.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start_in(sandbox: &Sandbox) -> io::Result<Self> {
        let (jobs, waiting): (_, Receiver<Job>) = sync_channel(QUEUE);
        let sandbox = sandbox.clone();
        let thread = thread::Builder::new().name("accounts".to_owned());
        thread.spawn(move || {
            sandbox.confine_thread(Role::Accounts, &[]);
            waiting.into_iter().for_each(|job| job());
        })?;
        Ok(Self(jobs))
    }

    /// Does `look_up` on the thread. `None` where there is no answer within `wait`: the thread may still look up
    /// something else.
    pub fn ask<T: Send + 'static>(
        &self,
        wait: Duration,
        look_up: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        if !self.send(move || {
            // Nobody waits any more after `wait`.
            let _ = answer.send(look_up());
        }) {
            return None;
        }
        answered.recv_timeout(wait).ok()
    }

    /// Does `job` on the thread, later. Returns whether there is room for it.
    pub fn send(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.0.try_send(Box::new(job)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn lookup_is_answered_by_another_thread() {
        let lookup = AccountLookup::start().unwrap_or_else(|error| panic!("{error}"));
        let here = thread::current().id();
        let there = lookup.ask(Duration::from_secs(10), || thread::current().id());
        assert!(there.is_some_and(|there| there != here));
    }

    #[test]
    fn lookup_that_takes_too_long_is_not_waited_for() {
        let lookup = AccountLookup::start().unwrap_or_else(|error| panic!("{error}"));
        let (end, ended) = sync_channel::<()>(0);
        let start = Instant::now();
        let slow = lookup.ask(Duration::from_millis(10), move || {
            let _ = ended.recv();
        });
        assert_eq!(slow, None);
        // Behind it nothing is answered either, and the queue is bounded.
        assert_eq!(lookup.ask(Duration::from_millis(10), || 1), None);
        assert!((0..=QUEUE).any(|_| !lookup.send(|| ())));
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(end);
        let patience = Instant::now() + Duration::from_secs(10);
        while lookup.ask(Duration::from_secs(1), || 1).is_none() {
            assert!(Instant::now() < patience, "it works again");
        }
    }
}
