//! `portguard check` as its user sees it: output and exit codes.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::process::{Command, Output};

fn check(policy: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.yaml"), policy).unwrap();
    Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(["check", "p.yaml"])
        .current_dir(dir.path())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const RULES: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: rest, action: deny, ports: [80] }
tests:
";

#[test]
fn tests_that_hold_are_counted() {
    let output = check(&format!(
        "{RULES}  - {{ user: 33, port: 80, expect: allow, rule: web }}
  - {{ user: 0, port: 80, expect: deny }}
  - {{ user: 0, port: 81, expect: kernel }}\n"
    ));
    let summary = text(&output.stdout);
    assert!(
        summary.ends_with(": 2 rules, 1 user, 3 of 3 tests hold\n"),
        "{summary}"
    );
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_test_that_does_not_hold_is_told_with_its_place() {
    let output = check(&format!(
        "{RULES}  - {{ user: 33, port: 80, expect: deny }}
  - {{ user: 0, port: 80, cgroup: /a/b, protocol: udp, expect: deny, rule: web }}
  - {{ user: 0, port: 81, expect: allow }}
  - {{ user: 0, port: 5432, expect: deny }}\n"
    ));
    assert_eq!(
        text(&output.stderr),
        "p.yaml:6:5: 33 binding tcp/80 in /: expected deny, got allow by rule web
p.yaml:7:5: 0 binding udp/80 in /a/b: expected deny by rule web, got deny by rule rest
p.yaml:8:5: 0 binding tcp/81 in /: expected allow, got kernel by the default
p.yaml:9:5: 0 binding tcp/5432 in /: port 5432 is not in `protect`, so nothing is decided\n"
    );
    assert!(text(&output.stdout).ends_with("0 of 4 tests hold\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn problems_end_with_one_and_usage_with_two() {
    let output = check("version: 2\n");
    assert!(text(&output.stderr).starts_with("p.yaml:1:10: policy version 2 is unknown"));
    assert_eq!(output.status.code(), Some(1));
    let usage = Command::new(env!("CARGO_BIN_EXE_portguard"))
        .arg("check")
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
