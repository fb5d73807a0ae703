//! Runs portguard beside a policy, with something to read.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs it in a directory that has `policy` as p.yaml, with `input` as its standard input.
pub(crate) fn portguard(policy: &str, arguments: &[&str], input: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.yaml"), policy).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}
