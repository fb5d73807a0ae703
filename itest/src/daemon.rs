//! The real portguard as a child process: started with a policy, read from, stopped and resumed.

use crate::harness::instance::program;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// How long a stopped or resumed daemon gets to notice.
const SETTLE: Duration = Duration::from_millis(20);

/// A running portguard; it is ended when dropped.
pub struct Daemon {
    child: Child,
    events: Receiver<Value>,
    /// What it said before it was ready.
    pub said: String,
    _socket: TempDir,
}

impl Daemon {
    /// Runs portguard with a policy file or directory until it says that it is ready.
    pub fn start(policy: &Path) -> anyhow::Result<Self> {
        let program = program();
        let socket = tempfile::tempdir()?;
        let mut child = Command::new(&program)
            .args(["run", "--no-fold", "--output", "json", "--policy"])
            .arg(policy)
            .arg("--socket")
            .arg(socket.path().join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let events = read_events(stdout.context("stdout is a pipe")?);
        let mut daemon = Self {
            child,
            events,
            said: String::new(),
            _socket: socket,
        };
        daemon.said = wait_until_ready(BufReader::new(stderr.context("stderr is a pipe")?))?;
        Ok(daemon)
    }

    /// Whether the cgroup hooks alone enforce, without the LSM: by what it said at its start.
    #[must_use]
    pub fn by_cgroup_hook(&self) -> bool {
        self.said.contains("portguard: hook cgroup")
    }

    /// The next event, or `None` where none comes in time.
    #[must_use]
    pub fn event(&self, within: Duration) -> Option<Value> {
        self.events.recv_timeout(within).ok()
    }

    /// Does something while the daemon is stopped, then lets it go on.
    pub fn frozen<T>(&self, done: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.signal(Signal::STOP)?;
        let result = done();
        self.signal(Signal::CONT)?;
        result
    }

    /// Lets a stopped daemon read all there is, and stops it again.
    pub fn catch_up(&self) -> anyhow::Result<()> {
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
    }
}

fn read_events(stdout: ChildStdout) -> Receiver<Value> {
    let (sender, events) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // A line that is no event is handed on as the text it is: whoever reads it will say so.
            let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    events
}

fn wait_until_ready(mut stderr: BufReader<ChildStderr>) -> anyhow::Result<String> {
    let mut said = String::new();
    loop {
        let from = said.len();
        if stderr.read_line(&mut said)? == 0 {
            bail!("portguard ended before it was ready:\n{said}");
        }
        if said
            .get(from..)
            .is_some_and(|line| line.contains("portguard: ready"))
        {
            break;
        }
    }
    // Nobody reads on, but the pipe must neither fill up nor close.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    Ok(said)
}
