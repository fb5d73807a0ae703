//! How commands are given their policy: as files, by `--policy`, on standard input, or not at all.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

mod command;

use std::process::Output;

const POLICY: &str = "version: 1
rules: [{ name: web, action: allow, ports: [80], users: [33], units: [nginx.service] }]
tests: [{ user: 33, unit: nginx.service, port: 80, expect: allow, rule: web }]
";

fn portguard(arguments: &[&str], input: &str) -> Output {
    command::portguard(POLICY, arguments, input)
}

/// Standard output, after a success.
fn said(arguments: &[&str], input: &str) -> String {
    let output = portguard(arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn policy_is_a_path_or_an_option() {
    for (command, rest) in [
        ("check", &[][..]),
        ("test", &["--json"]),
        ("explain", &["--port", "80", "--user", "33"]),
    ] {
        let by_path = said(&[&[command, "p.yaml"], rest].concat(), "");
        let by_option = said(&[&[command, "--policy", "p.yaml"], rest].concat(), "");
        assert_eq!(by_path, by_option, "{command}");
    }
}

#[test]
fn policy_is_that_of_the_host_by_default() {
    if ["/etc", "/usr/lib"].iter().any(|top| {
        std::path::Path::new(top)
            .join("portguard/policies")
            .exists()
    }) {
        return;
    }
    for arguments in [
        &["check"][..],
        &["test"],
        &["explain", "--port", "80"],
        &["inventory"],
    ] {
        let output = portguard(arguments, "");
        let error = String::from_utf8_lossy(&output.stderr);
        let expected = "/etc/portguard/policies:1:1: no policy files (*.yaml, *.yml) in \
                        /etc/portguard/policies or /usr/lib/portguard/policies";
        assert!(error.starts_with(expected), "{arguments:?}: {error}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn policy_comes_from_standard_input() {
    let summary = said(&["check", "-"], POLICY);
    assert_eq!(summary, said(&["check", "p.yaml"], ""));
    let arguments = ["--port", "80", "--user", "33", "--unit", "nginx"];
    let by_rule = said(&[&["explain", "-"][..], &arguments].concat(), POLICY);
    assert_eq!(by_rule, "allow by rule web (-:2:9)\n");
    assert!(said(&["test", "-", "--json"], POLICY).contains("\"passed\":true"));
    for arguments in [["diff", "-", "p.yaml"], ["diff", "p.yaml", "-"]] {
        assert_eq!(said(&arguments, POLICY), "no bind is decided differently\n");
    }
    let output = portguard(&["check", "-"], "version: 1\nrulez: []\n");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("-:2:1: unknown key `rulez`\n"), "{error}");
}

#[test]
fn standard_input_is_given_once() {
    for (arguments, expected) in [
        (
            &["check", "-", "-"][..],
            "-:1:1: standard input is given twice\n",
        ),
        (
            &["diff", "-", "-"],
            "portguard: standard input is given twice: one policy must be a file\n",
        ),
        (
            &["explain", "-", "--event", "-"],
            "portguard: standard input is given twice: the policy or the events must be a file\n",
        ),
    ] {
        let output = portguard(arguments, POLICY);
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            expected,
            "{arguments:?}"
        );
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn run_takes_no_policy_from_standard_input() {
    let output = portguard(&["run", "-"], POLICY);
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("eBPF programs") {
        // This build has none.
        return;
    }
    assert_eq!(
        error,
        "portguard: run reads its policy again at each reload, which standard input cannot be: give a file\n"
    );
    assert_eq!(output.status.code(), Some(1));
}
