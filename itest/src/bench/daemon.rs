//! portguard as a child process, stopped while a bind is timed: on one CPU its own work would count too.

use crate::oracle::Model;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// How long a stopped or resumed daemon gets to notice.
const SETTLE: Duration = Duration::from_millis(20);

/// A running portguard; it is ended when dropped.
pub(super) struct Daemon {
    child: Child,
    policy: PathBuf,
}

impl Daemon {
    /// Runs portguard with `model` until it says that it is ready.
    ///
    /// # Errors
    /// Where it cannot be started or ends instead; what it said is in the error.
    pub(super) fn start(model: &Model) -> anyhow::Result<Self> {
        let policy =
            std::env::temp_dir().join(format!("portguard-bench-{}.yaml", std::process::id()));
        std::fs::write(&policy, model.to_yaml())?;
        let program = program();
        let mut child = Command::new(&program)
            .args(["run", "--output", "json", "--policy"])
            .arg(&policy)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let stderr = child.stderr.take();
        let daemon = Self { child, policy };
        wait_until_ready(BufReader::new(stderr.context("stderr is a pipe")?))?;
        std::thread::sleep(SETTLE);
        Ok(daemon)
    }

    /// Does something while the daemon is stopped, then lets it catch up.
    ///
    /// # Errors
    /// Where the daemon is gone, or what is done fails.
    pub(super) fn frozen<T>(&self, done: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.signal(Signal::STOP)?;
        let result = done();
        self.signal(Signal::CONT)?;
        result
    }

    /// Lets the daemon read all there is, and stops it again.
    ///
    /// # Errors
    /// Where the daemon is gone.
    pub(super) fn catch_up(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)?;
        self.signal(Signal::STOP)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("the daemon is gone")?;
        std::thread::sleep(SETTLE);
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A daemon that is gone already was reported by whoever needed it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = kill_process(Pid::from_child(&self.child), Signal::CONT);
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.policy);
    }
}

/// `PORTGUARD`, else the binary beside this one.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTGUARD") {
        return path.into();
    }
    std::env::current_exe()
        .ok()
        .map(|path| path.with_file_name("portguard"))
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/bin/portguard".into())
}

fn wait_until_ready(mut stderr: BufReader<ChildStderr>) -> anyhow::Result<()> {
    let mut said = String::new();
    loop {
        let from = said.len();
        if stderr.read_line(&mut said)? == 0 {
            bail!("portguard ended before it was ready:\n{said}");
        }
        if said.get(from..).is_some_and(|line| line.contains("portguard: ready")) {
            break;
        }
    }
    // Nobody reads on, but the pipe must neither fill up nor close.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    Ok(())
}
