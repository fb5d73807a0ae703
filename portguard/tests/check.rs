//! `portguard check` as its user sees it: output and exit codes.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::process::{Command, Output};

fn check(policy: &str) -> Output {
    check_files(&[("p.yaml", policy)], &["p.yaml"])
}

fn check_files(files: &[(&str, &str)], arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("fleet")).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_portguard"))
        .arg("check")
        .args(arguments)
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
fn check_counts_passing_tests() {
    let output = check(&format!(
        "{RULES}  - {{ user: 33, port: 80, expect: allow, rule: web }}
  - {{ user: 0, port: 80, expect: deny }}
  - {{ user: 0, port: 81, expect: kernel }}\n"
    ));
    let summary = text(&output.stdout);
    assert!(
        summary.ends_with(": 2 rules, 1 user, 3 of 3 tests pass\n"),
        "{summary}"
    );
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn check_shows_failing_tests_with_location() {
    let output = check(&format!(
        "{RULES}  - {{ user: 33, port: 80, expect: deny }}
  - {{ user: 0, port: 80, cgroup: /a/b, protocol: udp, expect: deny, rule: web }}
  - {{ user: 0, port: 81, expect: allow }}
  - {{ user: 0, port: 5432, expect: deny }}\n"
    ));
    assert_eq!(
        text(&output.stderr),
        "p.yaml:6:5: 33 binds tcp/80 in /
  - deny
  + allow by rule web (p.yaml:3:5)
p.yaml:7:5: 0 binds udp/80 in /a/b
  - deny by rule web
  + deny by rule rest (p.yaml:4:5)
  rule web: its users do not match
p.yaml:8:5: 0 binds tcp/81 in /
  - allow
  + kernel by the default
p.yaml:9:5: 0 binds tcp/5432 in /
  - deny
  + not decided: port 5432 is not in `protect`\n"
    );
    assert!(text(&output.stdout).ends_with("0 of 4 tests pass\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_exits_1_for_problems_and_2_for_usage() {
    let output = check("version: 2\n");
    assert!(
        text(&output.stderr).starts_with("p.yaml:1:10: unsupported policy version 2, expected 1")
    );
    assert_eq!(output.status.code(), Some(1));
    let usage = Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(["check", "--no-such-option"])
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

/// A fleet's directory: what all have, and what web servers have above it.
const FLEET: [(&str, &str); 2] = [
    (
        "fleet/10-all.yaml",
        "version: 1
mode: audit
default: deny
rules: [{ name: mail, action: allow, ports: [25], users: [8] }, { name: rsh, action: deny, ports: [514], errno: EADDRINUSE }]
",
    ),
    (
        "fleet/20-web.yaml",
        "version: 1
hosts: [\"web-*\"]
mode: enforce
protect: [\"1-1023\", 8443]
log: deny
rules:
  - name: web
    action: allow
    ports: [80, \"8440-8443\"]
    users: [\"33-35\", 7]
    groups: [50]
    units: [web.service]
    addresses: [127.0.0.0/8, \"::1\"]
    cgroups: [\"/a/*b/**\", /]
    mode: audit
    log: none
",
    ),
];

#[test]
fn check_show_prints_merged_policy_with_locations() {
    let output = check_files(&FLEET, &["--show", "--host", "web-7", "fleet"]);
    assert_eq!(
        text(&output.stdout),
        "version: 1
mode: enforce  # fleet/20-web.yaml:3:7
default: deny  # fleet/10-all.yaml:3:10
protect: [\"1-1023\", 8443]  # fleet/20-web.yaml:4:10
scope: host  # built-in default
log: deny  # fleet/20-web.yaml:5:6
rules:
  # fleet/10-all.yaml:4:9
  - name: mail
    action: allow
    ports: [25]
    users: [8]
  # fleet/10-all.yaml:4:65
  - name: rsh
    action: deny
    ports: [514]
    errno: EADDRINUSE
  # fleet/20-web.yaml:7:5
  - name: web
    action: allow
    ports: [80, \"8440-8443\"]
    users: [\"33-35\", 7]
    groups: [50]
    cgroups: [/a/*b/**, /]
    units: [web.service]
    addresses: [\"127.0.0.0/8\", \"::1\"]
    mode: audit
    log: none
"
    );
    assert!(text(&output.stderr).contains(": 3 rules, 3 users, 0 of 0 tests pass"));
    let another = check_files(&FLEET, &["--show", "--host", "mail-1", "fleet"]);
    let another = text(&another.stdout);
    assert!(
        another.contains("mode: audit  # fleet/10-all.yaml:2:7"),
        "{another}"
    );
    assert!(!another.contains("name: web"), "{another}");
}

#[test]
fn check_show_prints_an_equal_policy() {
    let shown = check_files(&FLEET, &["--show", "--host", "web-7", "fleet"]);
    let again = check(&text(&shown.stdout));
    let digest = |text: &str| text.split(':').next().map(str::to_owned);
    let summary = text(&shown.stderr);
    let summary = summary.lines().last().unwrap();
    assert_eq!(digest(&text(&again.stdout)), digest(summary));
}

#[test]
fn check_strict_treats_warnings_as_errors() {
    let policy = "version: 1\nrules: [{ name: a, action: deny, ports: [80, 80] }]\n";
    let lax = check(policy);
    assert!(text(&lax.stderr).contains("p.yaml:2:46: warning: duplicate list entry"));
    assert_eq!(lax.status.code(), Some(0));
    let strict = check_files(&[("p.yaml", policy)], &["--strict", "p.yaml"]);
    let said = text(&strict.stderr);
    assert!(
        said.ends_with("portguard: 1 warning, treated as errors by --strict\n"),
        "{said}"
    );
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn check_json_matches_text() {
    let object = |policy: &str| -> serde_json::Value {
        let output = check_files(&[("p.yaml", policy)], &["--json", "--show", "p.yaml"]);
        assert_eq!(text(&output.stderr), "");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let broken = object("version: 1\nmod: audit\nrules: [{ action: deny }]\n");
    assert_eq!(broken["ok"], false);
    assert_eq!(broken["problems"][0]["severity"], "error");
    assert_eq!(broken["problems"][0]["location"]["line"], 2);
    assert_eq!(broken["problems"][0]["location"]["column"], 1);
    assert_eq!(broken["problems"][0]["message"], "unknown key `mod`");
    assert_eq!(broken["problems"][0]["help"], "did you mean `mode`?");
    assert_eq!(broken["problems"][1]["message"], "missing key `name`");
    let good = object(&format!(
        "{RULES}  - {{ user: 33, port: 80, expect: allow }}\n"
    ));
    assert_eq!(good["ok"], true);
    assert_eq!(good["rules"], 2);
    assert_eq!(good["tests"][0]["passed"], true);
    assert_eq!(good["effective"]["rules"][0]["users"][0], 33);
}

const NAMED: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80], users: [web-of-web-7], groups: [certs-of-web-7] }
  - { name: rest, action: deny, ports: [80] }
tests:
  - { user: web-of-web-7, groups: [certs-of-web-7], port: 80, expect: allow, rule: web }
  - { user: root, port: 80, expect: deny }
";

#[test]
fn check_takes_the_names_of_another_host_as_symbols() {
    let arguments = ["--strict", "--host", "web-7", "--show", "p.yaml"];
    let output = check_files(&[("p.yaml", NAMED)], &arguments);
    let said = text(&output.stderr);
    let note = "portguard: the users and groups of web-7 are not known here: every name is taken as one that it \
                has; --names FILE gives them\n";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    assert!(
        said.ends_with(": 2 rules, 1 user, 2 of 2 tests pass\n"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    for name in ["web-of-web-7", "certs-of-web-7"] {
        assert_eq!(shown.matches(name).count(), 2, "{shown}");
    }
    // On this host they are unknown.
    let here = check_files(&[("p.yaml", NAMED)], &["--strict", "p.yaml"]);
    let said = text(&here.stderr);
    let expected = "p.yaml:3:54: warning: unknown user `web-of-web-7`: this entry matches nobody\n";
    assert!(said.starts_with(expected), "{said}");
    assert_eq!(here.status.code(), Some(1));
    assert_eq!(check(NAMED).status.code(), Some(0));
}

#[test]
fn check_takes_the_names_of_another_host_from_files() {
    let names = "web-of-web-7:x:33:33::/:/bin/false\ncerts-of-web-7:x:1500:\n";
    let files = [
        ("p.yaml", NAMED),
        ("names", names),
        ("ids", "alice: 1000\n"),
    ];
    let arguments = [
        "--host", "web-7", "--names", "names", "--json", "--show", "p.yaml",
    ];
    let output = check_files(&files, &arguments);
    assert_eq!(text(&output.stderr), "");
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["ok"], true, "{object}");
    assert_eq!(object["effective"]["rules"][0]["users"][0], 33);
    assert_eq!(object["effective"]["rules"][0]["groups"][0], 1500);
    let output = check_files(&files, &["--names", "ids", "p.yaml"]);
    let said = text(&output.stderr);
    assert!(said.contains("unknown user `web-of-web-7`"), "{said}");
    let output = check_files(&files, &["--names", "p.yaml", "p.yaml"]);
    let said = text(&output.stderr);
    assert!(
        said.starts_with("portguard: p.yaml:2: expected a line of passwd"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    let output = check_files(&files, &["--names", "none", "p.yaml"]);
    let said = text(&output.stderr);
    assert!(
        said.starts_with("portguard: none: cannot read file: "),
        "{said}"
    );
}
