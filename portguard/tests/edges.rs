//! Commands whose output cannot be written, or has no reader.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

const POLICY: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
tests:
  - { user: 33, port: 80, expect: allow }
  - { user: 34, port: 80, expect: deny }
";

/// Every command that prints without a daemon.
const COMMANDS: [&[&str]; 18] = [
    &["check", "p.yaml"],
    &["check", "--json", "p.yaml"],
    &["check", "--json", "missing.yaml"],
    &["check", "--show", "p.yaml"],
    &["test", "p.yaml"],
    &["test", "--json", "p.yaml"],
    &["test", "--junit", "-", "p.yaml"],
    &["explain", "--policy", "p.yaml", "--port", "80"],
    &["explain", "--policy", "p.yaml", "--port", "80", "--all"],
    &["explain", "--policy", "p.yaml", "--port", "80", "--json"],
    &["diff", "p.yaml", "p.yaml"],
    &["suggest", "--from-host", "--root", "."],
    &["schema"],
    &["man"],
    &["completions", "bash"],
    &["status", "--socket", "nowhere/socket"],
    &["doctor"],
    &["--help"],
];

fn run(arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.yaml"), POLICY).unwrap();
    // What `suggest` takes for a host.
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .output()
        .unwrap()
}

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[test]
fn full_disk_is_an_error() {
    for arguments in COMMANDS {
        let output = run(arguments, full(), Stdio::piped());
        let said = String::from_utf8_lossy(&output.stderr);
        let expected =
            "portguard: cannot write to standard output: No space left on device (os error 28)\n";
        assert!(said.ends_with(expected), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    }
}

#[test]
fn full_disk_behind_stderr_changes_no_exit_code() {
    for arguments in COMMANDS {
        let expected = run(arguments, Stdio::null(), Stdio::null()).status;
        let actual = run(arguments, Stdio::null(), full()).status;
        assert_eq!(actual, expected, "{arguments:?}");
    }
}

#[test]
fn closed_pipe_ends_quietly() {
    for arguments in COMMANDS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run(arguments, writer.into(), Stdio::piped());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert!(!said.contains("standard output"), "{arguments:?}: {said}");
        // SIGPIPE, as cat(1) ends.
        assert_eq!(output.status.signal(), Some(13), "{arguments:?}: {said}");
    }
}
