//! `portguard completions` and `portguard man`: every command is in them.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::process::{Command, Output};

const VERBS: [&str; 15] = [
    "run",
    "check",
    "test",
    "explain",
    "suggest",
    "diff",
    "inventory",
    "monitor",
    "status",
    "reload",
    "detach",
    "doctor",
    "schema",
    "completions",
    "man",
];

fn portguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn every_shell_completes_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let output = portguard(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        for verb in VERBS {
            assert!(script.contains(verb), "{shell}: no {verb}");
        }
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(
        portguard(&["completions", "no-shell"]).status.code(),
        Some(2)
    );
}

#[test]
fn every_verb_has_a_page() {
    let page = String::from_utf8(portguard(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH portguard 1"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    let output = portguard(&["man", "--directory", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    for verb in VERBS {
        let path = directory.path().join(format!("portguard-{verb}.1"));
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{verb}: {page}");
    }
    let output = portguard(&["man", "--directory", "/no/such/directory"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("portguard: writing pages into /no/such/directory: "),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_short_help_fits_a_screen_and_the_long_one_has_examples() {
    for verb in VERBS {
        let short = String::from_utf8(portguard(&[verb, "-h"]).stdout).unwrap();
        assert!(short.lines().count() <= 30, "{verb} -h: {short}");
        let long = String::from_utf8(portguard(&[verb, "--help"]).stdout).unwrap();
        assert!(long.contains("Example"), "{verb} --help has no example");
    }
}
