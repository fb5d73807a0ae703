//! `portguard test` as its user sees it.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::process::{Command, Output};

const POLICY: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [33] }
  - { name: rest, action: deny, ports: [80] }
tests:
  - { user: 33, port: 80, expect: allow, rule: web }
";

const MORE: &str = "version: 1
tests:
  - { user: 33, port: 80, expect: deny, rule: rest }
  - { user: 0, port: 80, address: \"::1\", expect: deny }
";

fn test(arguments: &[&str]) -> (Output, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web.yaml"), POLICY).unwrap();
    std::fs::write(dir.path().join("more.yaml"), MORE).unwrap();
    std::fs::write(dir.path().join("none.yaml"), "version: 1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portguard"))
        .arg("test")
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap();
    (output, dir)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn test_runs_tests_of_all_files() {
    let (output, _dir) = test(&["web.yaml"]);
    assert_eq!(text(&output.stderr), "1 of 1 tests pass\n");
    assert_eq!(output.status.code(), Some(0));
    let (output, _dir) = test(&["web.yaml", "more.yaml"]);
    assert_eq!(
        text(&output.stdout),
        "more.yaml:3:5: 33 binds tcp/80 in /
  - deny by rule rest
  + allow by rule web (web.yaml:3:5)
  rule rest matches too, but comes later
"
    );
    assert_eq!(text(&output.stderr), "2 of 3 tests pass\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn test_fails_without_tests() {
    let (output, _dir) = test(&["none.yaml"]);
    let said = text(&output.stderr);
    assert!(
        said.ends_with("portguard: the policy has no tests; add some under `tests:`\n"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn test_writes_junit_and_json() {
    let (output, dir) = test(&["web.yaml", "more.yaml", "--junit", "report.xml"]);
    assert_eq!(output.status.code(), Some(1));
    let report = std::fs::read_to_string(dir.path().join("report.xml")).unwrap();
    for part in [
        r#"<testsuites name="portguard test" tests="3" skipped="0" failures="1" errors="0">"#,
        r#"<testsuite name="more.yaml" tests="2" skipped="0" errors="0" failures="1">"#,
        r#"<testcase name="line 3: 33 binds tcp/80 in /">"#,
        r#"message="expected deny by rule rest, got allow by rule web (web.yaml:3:5)""#,
        r#"<testcase name="line 4: 0 binds tcp/80 at ::1 in /"/>"#,
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let (output, _dir) = test(&["web.yaml", "more.yaml", "--junit", "-"]);
    assert_eq!(text(&output.stdout), report);
    let (output, _dir) = test(&["web.yaml", "--junit", "/no/such/report"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("portguard: writing the JUnit report /no/such/report: "),
        "{said}"
    );
    let (output, _dir) = test(&["web.yaml", "more.yaml", "--json"]);
    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["passed"], false);
    assert_eq!(lines[1]["actual"]["rule"], "web");
}
