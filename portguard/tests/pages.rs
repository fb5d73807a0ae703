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
fn completions_name_every_command() {
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
fn man_has_a_page_for_every_command() {
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
    let policy = std::fs::read(directory.path().join("portguard-policy.5")).unwrap();
    assert_eq!(policy, portguard(&["man", "--policy"]).stdout);
    let output = portguard(&["man", "--directory", "/no/such/directory"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("portguard: writing pages into /no/such/directory: "),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn help_is_short_and_long_help_has_examples() {
    for verb in VERBS {
        let short = String::from_utf8(portguard(&[verb, "-h"]).stdout).unwrap();
        assert!(short.lines().count() <= 30, "{verb} -h: {short}");
        let long = String::from_utf8(portguard(&[verb, "--help"]).stdout).unwrap();
        assert!(long.contains("Example"), "{verb} --help has no example");
    }
}

/// `BLESS=1 cargo test -p portguard --test pages` writes the page again after the reference changed.
#[test]
fn policy_page_matches_reference() {
    let reference = std::fs::read_to_string("../docs/policy.md").unwrap();
    // The first heading is the page's title.
    let (_, body) = reference.split_once('\n').unwrap();
    // The converter shows back quotes as they are; a man page sets such words in bold.
    let page = mandown::convert(&bold_code(body), "portguard-policy", 5);
    let path = "src/cli/portguard-policy.5";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let recorded = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        recorded == page,
        "docs/policy.md changed: run this test with BLESS=1"
    );
}

/// The schemas are a contract: a release compares these files with those of the last one. `BLESS=1 cargo test -p
/// portguard --test pages` writes them again.
#[test]
fn schemas_match_those_recorded() {
    for (arguments, name) in [
        (&["schema"][..], "portguard-policy"),
        (&["schema", "--event"], "portguard-event"),
    ] {
        let schema = portguard(arguments).stdout;
        let path = format!("../docs/baseline/{name}.schema.json");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &schema).unwrap();
        }
        assert!(
            std::fs::read(&path).is_ok_and(|recorded| recorded == schema),
            "`portguard {}` changed: say so in CHANGELOG.md, and run this test with BLESS=1",
            arguments.join(" ")
        );
    }
}

/// Code spans as bold words, fenced blocks as they are.
fn bold_code(markdown: &str) -> String {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in markdown.lines() {
        fenced ^= line.starts_with("```");
        lines.push(if fenced || line.starts_with("```") {
            line.to_owned()
        } else {
            let spans = line.split('`').enumerate();
            let spans = spans.map(|(i, text)| match i % 2 {
                0 => text.to_owned(),
                _ => format!("**{}**", text.replace('*', "\\*").replace('_', "\\_")),
            });
            spans.collect()
        });
    }
    lines.join("\n")
}

/// The threat model says of each crate why it is there.
#[test]
fn dependencies_are_in_the_threat_model() {
    let manifest = include_str!("../Cargo.toml");
    let model = include_str!("../../docs/security/threat-model.md");
    let (_, table) = manifest.split_once("[dependencies]\n").unwrap();
    let (table, _) = table.split_once("\n[").unwrap();
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split([' ', '.']).next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    for name in &names {
        assert!(model.contains(&format!("`{name}`")), "{name}");
    }
    // One is behind the feature `otlp`.
    let command = names.len() - 1;
    let (_, features) = manifest.split_once("\ncli = [\n").unwrap();
    let (features, _) = features.split_once("]\n").unwrap();
    let daemon = command - features.lines().count();
    let counts = [
        format!("`portguardd`, has {daemon} direct dependencies"),
        format!("`portguard`, has {command},"),
    ];
    for count in counts {
        assert!(model.contains(&count), "{count}");
    }
}
