//! `portguard explain` as its user sees it.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

mod command;

use std::process::Output;

const POLICY: &str = "version: 1
default: deny
rules:
  - { name: mail, action: allow, ports: [25], users: [8] }
  - { name: staff, action: allow, ports: [443], groups: [50] }
  - { name: loop, action: allow, ports: [443], addresses: [127.0.0.0/8] }
  - { name: unit, action: allow, ports: [443], units: [web.service] }
  - { name: tried, action: deny, ports: [443], users: [33], protocols: [udp], mode: audit }
  - { name: web, action: allow, ports: [443], users: [33], cgroups: [/www] }
";

fn explain(arguments: &[&str], input: &str) -> Output {
    let arguments = [&["explain", "--policy", "p.yaml"], arguments].concat();
    command::portguard(POLICY, &arguments, input)
}

fn said(arguments: &[&str]) -> String {
    let output = explain(arguments, "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn explain_names_rule_and_mismatches() {
    assert_eq!(
        said(&[
            "--port", "443", "--user", "33", "--group", "33", "--cgroup", "/www/a"
        ]),
        "allow by rule web (p.yaml:9:5)
  not mail (p.yaml:4:5): ports do not match 443
  not staff (p.yaml:5:5): groups do not match 33
  not loop (p.yaml:6:5): addresses do not match 0.0.0.0
  not unit (p.yaml:7:5): units do not match /www/a
  not tried (p.yaml:8:5): protocols do not match tcp
"
    );
}

#[test]
fn explain_names_default_and_unprotected_port() {
    let all = said(&["--port", "443", "--user", "34"]);
    assert!(
        all.starts_with("deny by the default (no rule matches)\n"),
        "{all}"
    );
    assert!(
        all.ends_with("not web (p.yaml:9:5): users do not match 34\n"),
        "{all}"
    );
    assert_eq!(
        said(&["--port", "8443"]),
        "not decided: port 8443 is not in `protect`\n"
    );
}

#[test]
fn explain_marks_audit_rules_in_text_and_json() {
    let arguments = ["--port", "443", "--user", "33", "--protocol", "udp"];
    let text = said(&arguments);
    assert!(
        text.starts_with("deny by rule tried (p.yaml:8:5), audit only: reported, not enforced\n"),
        "{text}"
    );
    let json = said(&[&arguments[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rule"], "tried");
    assert_eq!(json["location"]["line"], 8);
    assert_eq!(json["enforced"], false);
    assert_eq!(json["skipped"][3]["rule"], "unit");
    assert_eq!(json["skipped"][3]["field"], "units");
}

#[test]
fn explain_tells_the_errno_of_a_denial() {
    let policy = "{ version: 1, rules: [
        { name: reserved, action: deny, ports: [600], errno: EADDRINUSE },
        { name: plain, action: deny, ports: [601] },
        { name: only, action: deny, ports: [602], errno: EPERM, mode: audit }] }";
    let said = |port: &str, more: &[&str]| {
        let arguments = [&["explain", "--policy", "p.yaml", "--port", port], more].concat();
        String::from_utf8(command::portguard(policy, &arguments, "").stdout).unwrap()
    };
    for (port, text, errno) in [
        (
            "600",
            "deny (EADDRINUSE) by rule reserved (",
            "\"EADDRINUSE\"",
        ),
        ("601", "deny by rule plain (", "\"EACCES\""),
        ("602", "deny (EPERM) by rule only (", "null"),
        ("603", "kernel by the default (", "null"),
    ] {
        let shown = said(port, &[]);
        assert!(shown.starts_with(text), "{shown}");
        let json: serde_json::Value = serde_json::from_str(&said(port, &["--json"])).unwrap();
        assert_eq!(json["errno"].to_string(), errno, "{json}");
    }
}

#[test]
fn explain_takes_the_owners_of_user_namespaces() {
    let policy = "{ version: 1, rules: [
        { name: mine, action: allow, ports: [80], users: [1000] },
        { name: no-alice, action: deny, ports: [80], users: [1000] }] }";
    let said = |more: &[&str]| {
        let base = ["explain", "--policy", "p.yaml", "--port", "80"];
        let arguments = [&base[..], &["--user", "100000"], more].concat();
        String::from_utf8(command::portguard(policy, &arguments, "").stdout).unwrap()
    };
    let owned = said(&["--userns-owner", "100005", "--userns-owner", "1000"]);
    assert_eq!(
        owned,
        "deny by rule no-alice (p.yaml:3:9)\n  not mine (p.yaml:2:9): users do not match \
         100000, in a user namespace of 100005, in a user namespace of 1000\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&said(&["--userns-owner", "1000", "--json"])).unwrap();
    assert_eq!(json["bind"]["userns_owners"], serde_json::json!([1000]));
    assert!(said(&[]).starts_with("kernel by the default"));

    let event = r#"{"port":80,"protocol":"tcp","uid":100000,"userns_owner":1000}"#;
    let arguments = ["explain", "--policy", "p.yaml", "--event", "-"];
    let output = command::portguard(policy, &arguments, event);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("deny by rule no-alice"), "{text}");
}

#[test]
fn explain_tells_both_gids_of_a_setgid_program() {
    let policy = "{ version: 1, rules: [
        { name: games, action: allow, ports: [80], groups: [60] },
        { name: no-users, action: deny, ports: [80], groups: [1000] }] }";
    let event = r#"{"port":80,"protocol":"tcp","uid":1000,"gid":1000,"egid":60,"user":null}"#;
    let said = |more: &[&str], event: &str| {
        let arguments = [&["explain", "--policy", "p.yaml", "--event", "-"], more].concat();
        String::from_utf8(command::portguard(policy, &arguments, event).stdout).unwrap()
    };
    assert_eq!(
        said(&[], event),
        "deny by rule no-users (p.yaml:3:9)\n  not games (p.yaml:2:9): groups do not match real 1000, effective 60\n"
    );
    let json: serde_json::Value = serde_json::from_str(&said(&["--json"], event)).unwrap();
    assert_eq!(json["bind"]["gids"], serde_json::json!([]));
    assert_eq!(
        json["bind"]["setgid"],
        serde_json::json!({ "gid": 1000, "egid": 60 })
    );
    let member = event.replace("\"gid\":1000", "\"gid\":60");
    assert!(said(&[], &member).starts_with("allow by rule games"));
}

#[test]
fn explain_takes_a_unit_and_a_process() {
    let by_unit = "allow by rule unit (p.yaml:7:5)";
    for unit in ["web.service", "web"] {
        let text = said(&["--port", "443", "--unit", unit]);
        assert!(text.starts_with(by_unit), "{text}");
    }
    let text = said(&["--port", "443", "--unit", "web@1"]);
    let path = "units do not match /system.slice/system-web.slice/web@1.service\n";
    assert!(text.contains(path), "{text}");

    let own = std::process::id().to_string();
    let json = said(&["--port", "443", "--pid", &own, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(json["bind"]["uid"], uid);
    assert_eq!(json["bind"]["euid"], uid);
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    assert_eq!(json["bind"]["cgroup"].as_str(), cgroup);

    let output = explain(&["--port", "443", "--pid", "2147483647"], "");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.starts_with("portguard: reading process 2147483647: "),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
    for arguments in [
        ["--unit", "web", "--cgroup", "/a"],
        ["--pid", "1", "--user", "0"],
        ["--pid", "1", "--event", "-"],
    ] {
        let output = explain(&[&["--port", "443"][..], &arguments].concat(), "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn explain_reads_events() {
    let event = r#"{"port":443,"protocol":"tcp","uid":33,"euid":0,"gid":33,"user":null,"cgroup":"/www","address":"127.0.0.9","verdict":"allow"}"#;
    let output = explain(&["--event", "-"], &format!("{event}\n\n{event}\n"));
    let text = String::from_utf8(output.stdout).unwrap();
    let once = "allow by rule loop (p.yaml:6:5)
  not mail (p.yaml:4:5): ports do not match 443
  not staff (p.yaml:5:5): groups do not match 33
  but the event says allow by the default: it may be of another policy
";
    assert_eq!(text, once.repeat(2));
    let output = explain(&["--event", "-"], "no event\n");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with(
            "portguard: -:1: not a decision event of `portguard run`, `portguard monitor` or `journalctl -o json`: it is \
             not JSON, and not a row of the table"
        ),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// An event as the journal has it, between entries that are none.
const JOURNAL: &str = r#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"Started nginx.service"}
{"__REALTIME_TIMESTAMP":"2","MESSAGE":"deny tcp/443 ...","PORTGUARD_VERDICT":"deny","PORTGUARD_RULE":"old","PORTGUARD_POLICY":"0123456789ab","PORTGUARD_PORT":"443","PORTGUARD_PROTOCOL":"tcp","PORTGUARD_UID":"33","PORTGUARD_EUID":"33","PORTGUARD_GID":"33","PORTGUARD_CGROUP":[47,119,119,119],"PORTGUARD_ADDRESS":"0.0.0.0","PORTGUARD_ERRNO":"EACCES","PORTGUARD_COUNT":"2"}
"#;

#[test]
fn explain_reads_the_journal_and_rows_of_the_table() {
    let head = "allow by rule web (p.yaml:9:5)\n";
    let by_journal =
        " but the event says deny by rule old: it is of policy 0123456789ab, and this is ";
    let row = "TIME            VERDICT WHAT\n\
        03:04:05Z      deny    tcp/443 0.0.0.0       #33(33)         nginx[1]\n               \
        /www  rule old, EACCES\n";
    let by_row = " but the event says deny by rule old: it may be of another policy";
    for (input, difference) in [(JOURNAL, by_journal), (row, by_row)] {
        let output = explain(&["--event", "-"], input);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains(difference), "{text}");
    }
    let output = explain(&["--event", "-", "--json"], JOURNAL);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["event"]["policy"], "0123456789ab");
    assert_eq!(
        json["event"]["differs"],
        serde_json::json!(["verdict", "rule", "policy"])
    );
    assert_ne!(json["policy"], "0123456789ab");

    // The same policy and decision: nothing differs.
    let digest = json["policy"].as_str().unwrap();
    let same = JOURNAL.replace("0123456789ab", digest);
    let same = same
        .replace(r#""deny""#, r#""allow""#)
        .replace(r#""old""#, r#""web""#);
    let output = explain(&["--event", "-"], &same);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("event"), "{text}");
    let other = same.replace(r#""web""#, r#""staff""#);
    let output = explain(&["--event", "-"], &other);
    let text = String::from_utf8(output.stdout).unwrap();
    let groups = "but the event says allow by rule staff: it is of this policy, so the caller's groups have changed";
    assert!(text.contains(groups), "{text}");
}

#[test]
fn explain_says_that_there_is_no_event() {
    let entry = JOURNAL.lines().next().unwrap();
    for input in ["", "{\"dropped\":3}\n", entry] {
        let output = explain(&["--event", "-"], input);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(error, "portguard: -: no decision event in it\n");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn explain_exits_2_for_usage() {
    for (arguments, message) in [
        (
            &["--port", "443", "--user", "no-such-user"][..],
            "no such user; numeric ids are accepted",
        ),
        (
            &["--port", "443", "--group", "no-such-group"],
            "no such group; numeric ids are accepted",
        ),
        (
            &["--port", "443", "--cgroup", "www"],
            "expected an absolute path",
        ),
        (
            &["--port", "443", "--protocol", "icmp"],
            "expected tcp, udp, sctp or dccp",
        ),
        (&["--port", "0"], "0 is not in 1..=65535"),
        (&["--port", "443", "--event", "-"], "cannot be used with"),
        (&[], "--port <N>"),
    ] {
        let output = explain(arguments, "");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(message), "{arguments:?}: {error}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn json_option_makes_errors_json() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("web.yaml");
    std::fs::write(&policy, "version: 1\nrulez: []\n").unwrap();
    let path = policy.to_str().unwrap();
    for arguments in [
        &["explain", "--policy", path, "--port", "80", "--json"][..],
        &["test", path, "--json"],
        &["diff", path, path, "--json"],
        &["inventory", "--policy", path, "--json"],
        &["doctor", "--policy", path, "--json"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_portguard"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["error"], "the policy has errors", "{arguments:?}");
        assert_eq!(object["problems"][0]["location"]["line"], 2);
        assert_eq!(object["problems"][0]["severity"], "error");
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}
