//! A `portguard monitor` that runs, and what it printed.

use crate::harness::instance::{DEADLINE, Instance, drain, lines};
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// A monitor, killed when dropped.
pub(crate) struct Watching {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Watching {
    /// Starts one that prints JSON, and waits until no decision escapes it.
    pub(crate) fn start(instance: &Instance, filter: &[&str]) -> anyhow::Result<Self> {
        let mut command = instance.command(&["monitor", "--output", "json"]);
        command.args(filter);
        Self::by(command)
    }

    /// The same by a command of its own.
    pub(crate) fn by(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = lines(child.stdout.take().context("stdout is a pipe")?);
        let stderr = lines(child.stderr.take().context("stderr is a pipe")?);
        let watching = Self {
            child,
            stdout,
            stderr,
        };
        let said = watching.stderr.recv_timeout(DEADLINE)?;
        ensure!(said.starts_with("portguard: monitoring "), "{said}");
        Ok(watching)
    }

    /// The next line.
    pub(crate) fn next(&self) -> anyhow::Result<String> {
        self.stdout.recv_timeout(DEADLINE).context("no decision")
    }

    /// Stops it, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("the monitor is gone")
    }

    /// The lines that nobody has read, where it ended because its daemon did.
    pub(crate) fn rest(mut self) -> anyhow::Result<Vec<String>> {
        let until = Instant::now() + DEADLINE;
        let (rest, said) = (drain(&self.stdout, until)?, drain(&self.stderr, until)?);
        let code = self.child.wait()?.code();
        let ended = said.last().is_some_and(|line| line.ends_with(" has ended"));
        ensure!(code == Some(3) && ended, "{code:?}: {said:?}");
        Ok(rest)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Gone already where it ended; std knows and signals nobody else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
