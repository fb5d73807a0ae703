//! Continuous binds in the background, counted by errno.

use crate::harness::probe::inet;
use crate::harness::raw_syscalls;
use anyhow::{Context as _, anyhow};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread of this process that binds one port as root.
pub(crate) struct BindLoad {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<BTreeMap<i32, u64>, i32>>>,
}

impl BindLoad {
    /// Starts to bind UDP `port` on 127.9.9.`last`, at most `binds` times.
    pub(crate) fn start(last: u8, port: u16, binds: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let address = inet(libc::AF_INET, Ipv4Addr::new(127, 9, 9, last), port);
            let mut ended: BTreeMap<i32, u64> = BTreeMap::new();
            let mut socket = raw_syscalls::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
            for _ in 0..binds {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let errno = raw_syscalls::bind(socket.as_fd(), &address, 16);
                *ended.entry(errno).or_default() += 1;
                if errno == 0 {
                    socket = raw_syscalls::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
                }
            }
            Ok(ended)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops it: the number of binds by errno.
    pub(crate) fn stop(mut self) -> anyhow::Result<BTreeMap<i32, u64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits until it has made all its binds.
    pub(crate) fn join(&mut self) -> anyhow::Result<BTreeMap<i32, u64>> {
        let thread = self.thread.take().context("ended before")?;
        let ended = thread.join().map_err(|_| anyhow!("the thread panicked"))?;
        ended.map_err(|errno| anyhow!("no socket: errno {errno}"))
    }
}

impl Drop for BindLoad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
