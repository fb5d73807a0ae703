//! A running portguard: started with a policy, reloaded, signalled, ended.

use crate::harness::env::TestEnv;
use crate::harness::lines::{DEADLINE, drain, lines};
use anyhow::{Context as _, bail, ensure};
use portguard::control::{Reply, Request, ask};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// The daemon's socket, in a directory of its own.
const SOCKET: &str = "socket";

/// The binary: `PORTGUARD_BIN`, else the one beside this, else `/bin/portguard`.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTGUARD_BIN") {
        return path.into();
    }
    std::env::current_exe()
        .ok()
        .map(|path| path.with_file_name("portguard"))
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/bin/portguard".into())
}

/// The daemon's binary, which [`program`] becomes.
#[must_use]
pub fn daemon_program() -> PathBuf {
    program().with_file_name("portguardd")
}

/// A policy in a temporary file.
pub fn policy_file(text: &str) -> anyhow::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// A running portguard, killed when dropped.
pub struct Instance {
    child: Child,
    pub(crate) stdout: Receiver<String>,
    stderr_lines: Receiver<String>,
    /// Its stderr as far as it was read.
    pub stderr: String,
    /// The hook that enforces.
    pub hook: &'static str,
    policy: Option<NamedTempFile>,
    socket: TempDir,
}

/// A portguard that has ended.
pub struct Ended {
    pub status: ExitStatus,
    /// All of its stderr.
    pub stderr: String,
    /// The lines of its stdout that no test had read.
    pub stdout: Vec<String>,
}

impl Instance {
    /// Starts `portguard run --no-fold --output json` and waits until it is ready.
    pub fn start(env: &TestEnv, policy: &str) -> anyhow::Result<Self> {
        // Not `auto`, which would try the LSM in vain where there is none.
        Self::start_with(env, policy, env.auto_hook(), "json")
    }

    /// The same with the arguments of `--hook` and `--output`.
    pub fn start_with(
        env: &TestEnv,
        policy: &str,
        hook: &'static str,
        output: &str,
    ) -> anyhow::Result<Self> {
        // An event for each bind: that is what tests look for.
        let arguments = ["--no-fold", "--output", output];
        Self::start_by(env, policy, hook, &arguments)
    }

    /// Starts `portguard run` with any arguments.
    pub fn start_by(
        env: &TestEnv,
        policy: &str,
        hook: &'static str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_prepared(env, policy, hook, arguments, |_, _| Ok(()))
    }

    /// The same; `prepare` gets the command and the path of the socket first. If it redirects stdout, no lines are
    /// collected.
    pub fn start_prepared(
        env: &TestEnv,
        policy: &str,
        hook: &'static str,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let file = policy_file(policy)?;
        let mut instance = Self::launch(env, file.path(), hook, arguments, prepare)?;
        instance.policy = Some(file);
        Ok(instance)
    }

    /// Starts it with an existing policy, a file or a directory.
    pub fn start_on(
        env: &TestEnv,
        policy: &Path,
        hook: &'static str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        Self::launch(env, policy, hook, arguments, |_, _| Ok(()))
    }

    fn launch(
        env: &TestEnv,
        policy: &Path,
        hook: &'static str,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let socket = tempfile::tempdir()?;
        let program = program();
        let mut command = Command::new(&program);
        command
            .args(["run", "--hook", hook, "--policy"])
            .arg(policy)
            .arg("--socket")
            .arg(socket.path().join(SOCKET))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !arguments.contains(&"--state") {
            // Nothing of a test stays on the machine.
            command.arg("--state").arg(socket.path().join("state"));
        }
        prepare(&mut command, &socket.path().join(SOCKET))?;
        let mut child = command
            .spawn()
            .with_context(|| program.display().to_string())?;
        // Closes this process's copies of the descriptors that `prepare` passed.
        drop(command);
        let stdout = child.stdout.take().map_or_else(|| channel().1, lines);
        let stderr_lines = lines(child.stderr.take().context("stderr is a pipe")?);
        let hook = if hook == "auto" {
            env.auto_hook()
        } else {
            hook
        };
        let mut instance = Self {
            child,
            stdout,
            stderr_lines,
            stderr: String::new(),
            hook,
            policy: None,
            socket,
        };
        instance.wait_for_within("portguard: ready", env.patience())?;
        Ok(instance)
    }

    /// Waits for the next line on stderr that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        self.wait_for_within(text, DEADLINE)
    }

    fn wait_for_within(&mut self, text: &str, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.stderr_lines.recv_timeout(left) {
                Ok(line) => {
                    self.stderr.push_str(&line);
                    self.stderr.push('\n');
                    if line.contains(text) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {text:?} after {within:?}; stderr:\n{}", self.stderr)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("it ended without {text:?}; stderr:\n{}", self.stderr)
                }
            }
        }
    }

    /// Closes the reading end of its stderr.
    pub fn close_stderr(&mut self) {
        // The reading thread ends at the next line, which it cannot hand on.
        self.stderr_lines = channel().1;
    }

    /// Replaces its policy file.
    pub fn change(&self, policy: &str) -> anyhow::Result<()> {
        let path = self.policy_path()?;
        // By rename, as editors do it: the daemon never sees half a file.
        let directory = path.parent().context("a directory")?;
        let mut next = tempfile::Builder::new().tempfile_in(directory)?;
        next.write_all(policy.as_bytes())?;
        next.persist(path)?;
        Ok(())
    }

    /// Puts another policy in force.
    pub fn reload(&self, policy: &str) -> anyhow::Result<()> {
        self.change(policy)?;
        match ask(&self.socket(), &Request::Reload)? {
            Reply::Reloaded { .. } => Ok(()),
            other => bail!("reload: {other:?}\n{policy}"),
        }
    }

    /// The file of its policy.
    pub fn policy_path(&self) -> anyhow::Result<&Path> {
        let file = self.policy.as_ref().context("a policy of its own")?;
        Ok(file.path())
    }

    /// The next line of stdout.
    pub fn next_line(&self) -> anyhow::Result<String> {
        self.stdout.recv_timeout(DEADLINE).context("no line")
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.path().join(SOCKET)
    }

    /// A portguard command that talks to this daemon.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).arg("--socket").arg(self.socket());
        command
    }

    /// The output of `portguard status --json`.
    pub fn status(&self) -> anyhow::Result<Value> {
        let output = self.command(&["status", "--json"]).output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("status: {}", String::from_utf8_lossy(&output.stderr)))
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("portguard is gone")
    }

    /// Sends a signal and waits for the end.
    pub fn end(self, signal: Signal) -> anyhow::Result<Ended> {
        self.signal(signal)?;
        self.end_by_itself()
    }

    /// Waits for the end.
    pub fn end_by_itself(mut self) -> anyhow::Result<Ended> {
        let until = Instant::now() + DEADLINE;
        // Both pipes close when it ends.
        let stdout = drain(&self.stdout, until)?;
        for line in drain(&self.stderr_lines, until)? {
            self.stderr.push_str(&line);
            self.stderr.push('\n');
        }
        let status = self.child.wait()?;
        Ok(Ended {
            status,
            stderr: std::mem::take(&mut self.stderr),
            stdout,
        })
    }

    /// Ends it by SIGTERM; its exit code must be 0.
    pub fn stop(self) -> anyhow::Result<Ended> {
        let ended = self.end(Signal::TERM)?;
        ensure!(
            ended.status.code() == Some(0),
            "SIGTERM ended it with {}:\n{}",
            ended.status,
            ended.stderr
        );
        Ok(ended)
    }
}

impl Ended {
    /// How many events it reported as dropped.
    pub(crate) fn dropped(&self) -> anyhow::Result<u64> {
        let mut lines = self.stderr.lines();
        let dropped =
            lines.find_map(|line| line.split("; ").nth(1)?.strip_suffix(" events dropped"));
        Ok(dropped.with_context(|| self.stderr.clone())?.parse()?)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It has ended already if the test ended it; std does not signal a reaped child.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
