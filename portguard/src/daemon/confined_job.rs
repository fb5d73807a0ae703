//! Jobs on confined threads of their own, beside the loop.

use crate::sandbox::{Role, Sandbox};
use std::io;
use std::path::PathBuf;
use std::thread;
use tokio::sync::oneshot;

/// A job that runs; without a result where its thread has panicked.
pub(super) type Job<T> = oneshot::Receiver<T>;

/// Starts `job` on a thread that reads and keeps policies; it may write below `directories`.
///
/// # Errors
/// The system has no thread for it.
pub(super) fn start<T: Send + 'static>(
    sandbox: &Sandbox,
    directories: Vec<PathBuf>,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Job<T>> {
    let (result, waiting) = oneshot::channel();
    let sandbox = sandbox.clone();
    let thread = thread::Builder::new().name("policy".to_owned());
    thread.spawn(move || {
        sandbox.confine_thread(Role::Policy, &directories);
        // The daemon may have ended meanwhile.
        let _ = result.send(job());
    })?;
    Ok(waiting)
}
