//! What needs the eBPF programs says so first in a build without them.

#![cfg(not(ebpf_object))]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::process::{Command, Output};

fn portguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn run_without_object_says_so_and_exits_3() {
    let output = portguard(&["run", "--policy", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "portguard: eBPF programs: this build has none\n  fix: build portguard with `cargo xtask build`\n"
    );
}

#[test]
fn doctor_without_object_says_so_first_and_exits_3() {
    let output = portguard(&["doctor"]);
    assert_eq!(output.status.code(), Some(3));
    let report = String::from_utf8(output.stdout).unwrap();
    let mut lines = report.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ")
    });
    assert_eq!(
        lines.next().as_deref(),
        Some("missing eBPF programs this build has none")
    );
    assert_eq!(
        lines.next().as_deref(),
        Some("fix: build portguard with `cargo xtask build`")
    );
}
