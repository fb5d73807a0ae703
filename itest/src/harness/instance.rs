//! A portguard that runs: started with a policy, its events collected, ended and looked at.

use crate::harness::TestEnv;
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read, Write as _};

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// The daemon's socket, in a directory of its own.
const SOCKET: &str = "socket";

/// An emulated machine is slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The program: `PORTGUARD_BIN`, else the one beside this, else `/bin/portguard`.
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

/// A policy in a file of its own, removed when dropped.
pub fn policy_file(text: &str) -> anyhow::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// A running portguard, killed when dropped.
pub struct Instance {
    child: Child,
    pub(crate) stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// What it said on stderr so far.
    pub said: String,
    /// The hook that it was told to take or must have taken.
    pub hook: &'static str,
    policy: Option<NamedTempFile>,
    socket: TempDir,
}

/// What a portguard left when it ended.
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it said on stderr.
    pub said: String,
    /// The lines of stdout that nobody had read.
    pub rest: Vec<String>,
}

impl Instance {
    /// Starts `portguard run --output json` and waits until it is ready.
    pub fn start(env: &TestEnv, policy: &str) -> anyhow::Result<Self> {
        // What `auto` must take, without its vain look at the LSM first where there is none.
        Self::start_with(env, policy, env.auto_hook(), "json")
    }

    /// The same by a certain hook and with a certain output.
    pub fn start_with(
        env: &TestEnv,
        policy: &str,
        hook: &'static str,
        output: &str,
    ) -> anyhow::Result<Self> {
        // Every decision by itself: what a test looks for is one bind's event.
        let arguments = ["--no-fold", "--output", output];
        Self::start_by(env, policy, hook, &arguments)
    }

    /// The same with any arguments of `portguard run`.
    pub fn start_by(
        env: &TestEnv,
        policy: &str,
        hook: &'static str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_prepared(env, policy, hook, arguments, |_, _| Ok(()))
    }

    /// The same, and its command and the path of its socket are handed to `prepare` before it starts. Of a
    /// standard output that is put elsewhere no line is collected.
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

    /// The same with a policy that is there already: a file or a directory.
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
        prepare(&mut command, &socket.path().join(SOCKET))?;
        let mut child = command
            .spawn()
            .with_context(|| program.display().to_string())?;
        // It has its own ends of what `prepare` gave it, and nobody else must hold them open.
        drop(command);
        let stdout = child.stdout.take().map_or_else(|| channel().1, lines);
        let stderr = lines(child.stderr.take().context("stderr is a pipe")?);
        let hook = if hook == "auto" {
            env.auto_hook()
        } else {
            hook
        };
        let mut instance = Self {
            child,
            stdout,
            stderr,
            said: String::new(),
            hook,
            policy: None,
            socket,
        };
        instance.wait_until_ready(env.patience())?;
        Ok(instance)
    }

    fn wait_until_ready(&mut self, within: Duration) -> anyhow::Result<()> {
        self.wait_for_within("portguard: ready", within)
    }

    /// Waits until it says something more on stderr.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        self.wait_for_within(text, DEADLINE)
    }

    fn wait_for_within(&mut self, text: &str, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                    if line.contains(text) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {text:?} after {within:?}; it said:\n{}", self.said)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("it ended before it said {text:?}:\n{}", self.said)
                }
            }
        }
    }

    /// Closes the reading end of its stderr.
    pub fn close_stderr(&mut self) {
        // The reading thread ends at the next line, which finds nobody.
        self.stderr = channel().1;
    }

    /// Writes another policy into its file.
    pub fn change(&self, policy: &str) -> anyhow::Result<()> {
        let path = self.policy_path()?;
        // As an editor does it: another file under the same name, never a half-written one.
        let mut next =
            tempfile::Builder::new().tempfile_in(path.parent().context("a directory")?)?;
        next.write_all(policy.as_bytes())?;
        next.persist(path)?;
        Ok(())
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

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.path().join(SOCKET)
    }

    /// A command of portguard's that asks the daemon.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).arg("--socket").arg(self.socket());
        command
    }

    /// What `portguard status --json` says.
    pub fn status(&self) -> anyhow::Result<Value> {
        let output = self.command(&["status", "--json"]).output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("status: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Sends a signal.
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
        // Its end closes both pipes.
        let rest = drain(&self.stdout, until)?;
        for line in drain(&self.stderr, until)? {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        let status = self.child.wait()?;
        Ok(Ended {
            status,
            said: std::mem::take(&mut self.said),
            rest,
        })
    }

    /// Ends it as an administrator would.
    pub fn stop(self) -> anyhow::Result<Ended> {
        let ended = self.end(Signal::TERM)?;
        ensure!(
            ended.status.code() == Some(0),
            "SIGTERM ended it with {}:\n{}",
            ended.status,
            ended.said
        );
        Ok(ended)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Gone already where the test ended it; std knows and signals nobody else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, as they come.
pub(crate) fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver): (Sender<String>, _) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    receiver
}

/// All lines up to the pipe's end.
pub(crate) fn drain(from: &Receiver<String>, until: Instant) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        match from.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Disconnected) => return Ok(lines),
            Err(RecvTimeoutError::Timeout) => bail!("it has not ended after {DEADLINE:?}"),
        }
    }
}
