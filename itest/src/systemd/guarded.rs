//! Binds without a break, which are refused throughout: no moment unguarded.

use crate::probe::{Answer, Attempt, Probe};
use anyhow::{Context as _, ensure};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Root, to whom port 80 is denied, tries for it again and again.
pub(super) struct Guarded {
    done: Arc<AtomicBool>,
    tries: Arc<AtomicU64>,
    thread: Option<JoinHandle<Option<String>>>,
}

impl Guarded {
    /// Begins.
    pub(super) fn watch() -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let tries = Arc::new(AtomicU64::new(0));
        let (ends, count) = (Arc::clone(&done), Arc::clone(&tries));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                match TcpListener::bind(("127.0.0.1", 80)) {
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                    Err(error) => return Some(format!("bind {number} failed otherwise: {error}")),
                    Ok(_) => return Some(format!("bind {number} got the port")),
                }
            }
            None
        });
        Self {
            done,
            tries,
            thread: Some(thread),
        }
    }

    /// Ends; how many binds were refused, which were all.
    pub(super) fn end(mut self) -> anyhow::Result<u64> {
        self.done.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it is ended once")?;
        let unguarded = thread
            .join()
            .map_err(|_| anyhow::anyhow!("the binds panicked"))?;
        if let Some(unguarded) = unguarded {
            anyhow::bail!(unguarded);
        }
        let tries = self.tries.load(Ordering::Relaxed);
        ensure!(tries > 10, "only {tries} binds were made meanwhile");
        Ok(tries)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// What a bind of port 80 by this user ends with.
pub(super) fn bind_by(uid: u32) -> anyhow::Result<i32> {
    match Probe::user(uid).bind(Attempt::tcp(80)).run()?.as_slice() {
        [Answer::Bound(errno)] => Ok(*errno),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Root is denied port 80, and www-data has it where the kernel can grant.
pub(super) fn in_force(grants: bool) -> anyhow::Result<()> {
    let (root, web) = (bind_by(0)?, bind_by(33)?);
    ensure!(root == libc::EACCES, "root's bind ended with {root}");
    let granted = if grants { 0 } else { libc::EACCES };
    ensure!(web == granted, "www-data's bind ended with {web}");
    Ok(())
}
