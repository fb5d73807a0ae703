//! A portguard that SIGSTOP has stopped.

use crate::harness::instance::Instance;
use rustix::process::Signal;
use std::time::Duration;

/// How long the signal may take to have its effect.
const SETTLE: Duration = Duration::from_millis(20);

/// A stopped portguard; dropping this resumes it.
pub(crate) struct Frozen<'a>(&'a Instance);

impl<'a> Frozen<'a> {
    pub(crate) fn new(instance: &'a Instance) -> anyhow::Result<Self> {
        let frozen = Self(instance);
        frozen.signal(Signal::STOP)?;
        Ok(frozen)
    }

    /// Lets it read all pending events, and stops it again.
    pub(crate) fn catch_up(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)?;
        self.signal(Signal::STOP)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.0.signal(signal)?;
        std::thread::sleep(SETTLE);
        Ok(())
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.signal(Signal::CONT) {
            eprintln!("{error:#}");
        }
    }
}
