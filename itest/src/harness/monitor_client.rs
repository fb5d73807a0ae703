//! A running `portguard monitor`.

use crate::harness::instance::Instance;
use crate::harness::lines::{DEADLINE, drain, lines};
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// Killed when dropped.
pub(crate) struct MonitorClient {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl MonitorClient {
    /// Starts one that prints JSON, and waits until it monitors.
    pub(crate) fn start(instance: &Instance, filter: &[&str]) -> anyhow::Result<Self> {
        let mut command = instance.command(&["monitor", "--output", "json"]);
        command.args(filter);
        Self::by(command)
    }

    /// The same with another command line.
    pub(crate) fn by(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = lines(child.stdout.take().context("stdout is a pipe")?);
        let stderr = lines(child.stderr.take().context("stderr is a pipe")?);
        let monitor = Self {
            child,
            stdout,
            stderr,
        };
        let line = monitor.stderr.recv_timeout(DEADLINE)?;
        ensure!(line.starts_with("portguard: monitoring "), "{line}");
        Ok(monitor)
    }

    pub(crate) fn next(&self) -> anyhow::Result<String> {
        self.stdout.recv_timeout(DEADLINE).context("no decision")
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("the monitor is gone")
    }

    /// The remaining lines, once it has ended because its daemon ended.
    pub(crate) fn rest(mut self) -> anyhow::Result<Vec<String>> {
        let until = Instant::now() + DEADLINE;
        let (rest, stderr) = (drain(&self.stdout, until)?, drain(&self.stderr, until)?);
        let code = self.child.wait()?.code();
        let ended = stderr
            .last()
            .is_some_and(|line| line.ends_with(" has ended"));
        ensure!(code == Some(3) && ended, "{code:?}: {stderr:?}");
        Ok(rest)
    }
}

impl Drop for MonitorClient {
    fn drop(&mut self) {
        // It may have ended already; std does not signal a reaped child.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
