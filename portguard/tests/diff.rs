//! `portguard diff` and `portguard explain --all` as their user sees them.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::fmt::Write as _;
use std::process::{Command, Output};

fn portguard(files: &[(&str, &str)], arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap()
}

fn said(output: &Output, code: i32) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn diff(old: &str, new: &str, code: i32) -> String {
    let files = [("old.yaml", old), ("new.yaml", new)];
    said(&portguard(&files, &["diff", "old.yaml", "new.yaml"]), code)
}

const OLD: &str = "version: 1
rules:
  - { name: web, action: allow, ports: [80, 443], users: [33] }
  - { name: nobody-else, action: deny, ports: [80, 443] }
";

#[test]
fn diff_lists_changed_binds() {
    let new = "version: 1
protect: [\"1-1023\", 5432]
rules:
  - { name: web, action: allow, ports: [80, 443], protocols: [tcp], users: [\"33-34\"] }
  - { name: nobody-else, action: deny, ports: [80, 443] }
  - { name: db, action: deny, ports: [5432], cgroups: [/guests] }
";
    assert_eq!(
        diff(OLD, new, 1),
        "PORTS   PROTOCOLS      USERS                        CGROUPS  OLD                  NEW
80,443  udp,sctp,dccp  33                           any      allow by web         deny by nobody-else
80,443  tcp            34                           any      deny by nobody-else  allow by web
80,443  tcp            real 33-34, effective 33-34  any      deny by nobody-else  allow by web
5432    any            any                          /guests  kernel, not decided  deny by db
5432    any            real any, effective another  /guests  kernel, not decided  deny by db

5 changes
"
    );
}

#[test]
fn diff_shows_another_errno() {
    let new = OLD.replace("nobody-else,", "nobody-else, errno: EADDRINUSE,");
    let table = diff(OLD, &new, 1);
    let change = "deny by nobody-else  deny (EADDRINUSE) by nobody-else";
    assert!(table.contains(change), "{table}");
    let files = [("old.yaml", OLD), ("new.yaml", &new)];
    let json = said(
        &portguard(&files, &["diff", "--json", "old.yaml", "new.yaml"]),
        1,
    );
    assert!(json.contains(r#""errno":"EACCES""#) && json.contains(r#""errno":"EADDRINUSE""#));
    // Of a rule that only reports, it changes nothing.
    let audit = |text: &str| text.replace("action: deny,", "action: deny, mode: audit,");
    diff(&audit(OLD), &audit(&new), 0);
}

#[test]
fn diff_ignores_rewording() {
    let new = "version: 1
log: deny
rules:
  - { name: http, action: allow, ports: [80], users: [33], log: none }
  - { name: https, action: allow, ports: [443], users: [\"33-33\"] }
  - { name: no-http, action: deny, ports: [80] }
  - { name: no-https, action: deny, ports: [443] }
";
    assert_eq!(diff(OLD, new, 0), "no bind is decided differently\n");
    assert_eq!(diff(OLD, OLD, 0), "no bind is decided differently\n");
}

#[test]
fn diff_compares_mode_default_and_scope() {
    let with = |settings: &str| format!("version: 1\nprotect: [80]\n{settings}\n");
    let table = diff(&with(""), &with("default: deny"), 1);
    assert!(
        table.contains("kernel by default  deny by default"),
        "{table}"
    );
    let table = diff(
        &with("default: deny"),
        &with("default: deny\nmode: audit"),
        1,
    );
    assert!(
        table.contains("deny by default  kernel (audit: deny) by default"),
        "{table}"
    );
    let table = diff(
        &with("default: deny"),
        &with("default: deny\nscope: all"),
        1,
    );
    assert!(
        table.contains("others  kernel, not decided  deny by default"),
        "{table}"
    );
    assert!(!table.contains("initial"), "{table}");
}

#[test]
fn diff_json_has_every_range() {
    let new = OLD.replace("users: [33]", "users: [33, 40]");
    let files = [("old.yaml", OLD), ("new.yaml", new.as_str())];
    let text = said(
        &portguard(&files, &["diff", "--json", "old.yaml", "new.yaml"]),
        1,
    );
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        first["binds"]["ports"]["udp"],
        serde_json::json!([[80, 80], [443, 443]])
    );
    let users = &first["binds"]["users"]["uids"]["are"];
    assert_eq!(*users, serde_json::json!([[40, 40]]));
    assert_eq!(first["old"]["verdict"], "deny");
    assert_eq!(first["old"]["enforced"], true);
    assert_eq!(first["new"]["rule"], "web");
}

#[test]
fn diff_rejects_invalid_policy() {
    let files = [("old.yaml", OLD), ("new.yaml", "version: 2\n")];
    let output = portguard(&files, &["diff", "old.yaml", "new.yaml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("new.yaml:1:10: unsupported policy version 2, expected 1"),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn diff_gives_up_on_too_many_crossing_rules() {
    let mut new = "version: 1\nrules:\n".to_owned();
    for i in 0..3000 {
        let action = if i % 2 == 0 { "allow" } else { "deny" };
        let users = format!("[{}, {}]", 2 * i, 2 * i + 20_001);
        writeln!(
            new,
            "- {{ name: r{i}, action: {action}, users: {users}, groups: [{i}] }}"
        )
        .unwrap();
    }
    let files = [("old.yaml", OLD), ("new.yaml", new.as_str())];
    let output = portguard(&files, &["diff", "old.yaml", "new.yaml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with(
            "portguard: the rules overlap in too many ways to tell all their regions apart: "
        ),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn explain_all_lists_who_can_bind() {
    let policy = "version: 1
rules:
  - { name: guests, action: deny, cgroups: [/guests] }
  - { name: web, action: allow, ports: [443], protocols: [tcp], users: [33] }
  - { name: unit, action: allow, ports: [443], units: [web.service], groups: [50] }
  - { name: others, action: deny, ports: [443], users: [\"1000-2000\"] }
";
    let files = [("p.yaml", policy)];
    let all = ["explain", "--all", "--policy", "p.yaml", "--port"];
    let text = said(
        &portguard(&files, &[&all[..], &["443", "--protocol", "tcp"]].concat()),
        0,
    );
    assert_eq!(
        text,
        "VERDICT  PROTOCOLS  USERS                        GROUPS  CGROUPS                               BY
allow    tcp        any but 33                   50      unit web.service                      rule unit
kernel   tcp        any but 33,1000-2000         any     not /guests and not unit web.service  the default
kernel   tcp        any but 33,1000-2000         not 50  unit web.service                      the default
allow    tcp        33                           any     not /guests                           rule web
allow    tcp        real any, effective another  50      unit web.service                      rule unit

kernel: callers with CAP_NET_BIND_SERVICE, and everyone for ports from ip_unprivileged_port_start up

everyone else: deny
"
    );
    let text = said(&portguard(&files, &[&all[..], &["8080"]].concat()), 0);
    assert_eq!(text, "not decided: port 8080 is not in `protect`\n");
    let json = said(
        &portguard(&files, &[&all[..], &["443", "--json"]].concat()),
        0,
    );
    let rows: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(rows.iter().all(|row| row["port"] == 443));
    let of = |verdict: &str| rows.iter().filter(|row| row["verdict"] == verdict).count();
    assert!(of("allow") > 0 && of("kernel") > 0 && of("deny") > 0);
    let json = said(
        &portguard(&files, &[&all[..], &["8080", "--json"]].concat()),
        0,
    );
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(row["decided"], false);
    assert_eq!(row["port"], 8080);
    let usage = portguard(&files, &["explain", "--all", "--policy", "p.yaml"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn explain_all_lists_the_wildcard_that_a_denial_takes() {
    let policy = "version: 1
default: deny
rules:
  - { name: not-loop, action: deny, ports: [80], addresses: [127.0.0.0/8] }
  - { name: six, action: allow, ports: [80], addresses: ['::/0'] }
  - { name: four, action: allow, ports: [80], addresses: [0.0.0.0/1, 128.0.0.0/1] }
";
    let files = [("p.yaml", policy)];
    let all = ["explain", "--all", "--policy", "p.yaml", "--port", "80"];
    let text = said(&portguard(&files, &all), 0);
    assert_eq!(
        text,
        "VERDICT  USERS                        ADDRESSES                             BY
allow    any                          ::/0                                  rule six
allow    any                          not 127.0.0.0/8,0.0.0.0 and not ::/0  rule four
allow    real any, effective another  ::/0                                  rule six
allow    real any, effective another  not 127.0.0.0/8,0.0.0.0 and not ::/0  rule four

everyone else: deny
"
    );
}
