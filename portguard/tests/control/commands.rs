//! `monitor`, `status` and `reload` as their user sees them: output and exit codes.

use crate::daemon::{Daemon, MISTAKE, decided, directory, status};
use portguard::control::{Reply, Request};
use portguard::events::DecisionEvent;
use portguard::status::{Enforcing, Hardening, Reloads, Status};
use portguard_common::Verdict;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portguard"));
    command.args(arguments).arg("--socket").arg(socket);
    command.env("TZ", "UTC");
    command
}

fn portguard(daemon: &Daemon, arguments: &[&str]) -> Output {
    command(&daemon.socket(), arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A daemon with this status.
fn with_status(status: Status) -> Daemon {
    let own = rustix::process::getegid().as_raw();
    Daemon::answering(Some(own), move |request| match request {
        Request::Status => Some(Reply::Status(Box::new(status.clone()))),
        _ => Some(Reply::Failed {
            error: MISTAKE.into(),
        }),
    })
}

const STATUS: &str = "\
state        enforcing, hook lsm
policy       b7b9142ff996, enforce, in force since 2026-01-03T00:00:00Z, generation 3
             revision fedcba987654, from /etc/portguard/policies
             ports 1-1023, default kernel, scope host
daemon       pid 4242, version 0.1.0, up 3 d 4 h
pins         /sys/fs/bpf/portguard
kernel       6.12.0
decisions    15: 12 allow, 3 deny, 0 kernel
dropped      none
reloads      2 done, 0 failed, the last 2026-01-03T00:00:00Z

HITS  VERDICT       RULE       ORIGIN
12    allow         web        /etc/portguard/web.yaml:5
3     deny (audit)  rest       /etc/portguard/web.yaml:10
0     kernel        (default)
";

#[test]
fn status_prints_text() {
    let output = portguard(&Daemon::start(), &["status"]);
    assert_eq!(text(&output.stdout), STATUS);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn status_prints_json() {
    let output = portguard(&Daemon::start(), &["status", "--json"]);
    let said: Status = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said, status());
    let said = text(&output.stdout);
    for words in [
        r#"{"enforcing":"enforce","hook":"lsm","daemon":{"#,
        r#""mode":"enforce","default":"kernel","protect":"1-1023","scope":"host"}"#,
        r#"{"name":"rest","verdict":"deny","origin":"/etc/portguard/web.yaml:10","audit":true,"#,
        r#""dropped":{"ring_full":0,"uid_quota":0}"#,
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn status_exits_1_with_problems() {
    let output = portguard(
        &with_status(Status {
            enforcing: Enforcing::Degraded,
            problems: vec!["the hook bind6 is gone".into()],
            dropped: [("ring_full".to_owned(), 10), ("uid_quota".to_owned(), 2)].into(),
            reattached: 2,
            violations: Some(1),
            hardening: Some(Hardening {
                sandbox: true,
                capabilities: vec!["CAP_PERFMON".into(), "CAP_BPF".into()],
                no_new_privs: true,
                seccomp: true,
                landlock: false,
                missing: vec!["Landlock is not available".into()],
            }),
            pins: None,
            reloads: Some(Reloads {
                done: 2,
                failed: 1,
                last_success: None,
                last: Some("2026-01-03T00:00:00Z".into()),
                error: Some(MISTAKE.into()),
            }),
            rules: Vec::new(),
            ..status()
        }),
        &["status"],
    );
    let expected = "\
state        degraded, hook lsm
problem      the hook bind6 is gone
policy       b7b9142ff996, enforce, in force since 2026-01-03T00:00:00Z, generation 3
             revision fedcba987654, from /etc/portguard/policies
             ports 1-1023, default kernel, scope host
daemon       pid 4242, version 0.1.0, up 3 d 4 h
pins         none; enforcement ends with the daemon
kernel       6.12.0
sandbox      no_new_privs, seccomp, CAP_PERFMON, CAP_BPF
             Landlock is not available
decisions    15: 12 allow, 3 deny, 0 kernel
dropped      12: 10 ring_full, 2 uid_quota
hooks        re-attached 2 times
violations   1 socket already bound in violation of the policy
reloads      2 done, 1 failed, the last 2026-01-03T00:00:00Z
             the last reload failed, keeping the previous policy:
             web.yaml:7:5: unknown key `prots`
               |
             7 |     prots: [80]
               |     ^^^^^ did you mean `ports`?
";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn status_exits_1_with_violations() {
    for (violations, code) in [(None, 0), (Some(0), 0), (Some(1), 1)] {
        let status = Status {
            violations,
            ..status()
        };
        let output = portguard(&with_status(status), &["status"]);
        assert_eq!(output.status.code(), Some(code), "{violations:?}");
    }
}

#[test]
fn status_exits_0_in_audit_and_1_after_failed_reload() {
    let audit = Status {
        enforcing: Enforcing::Audit,
        ..status()
    };
    let output = portguard(&with_status(audit), &["status"]);
    let said = text(&output.stdout);
    let state = "state        auditing: nothing is denied or granted, hook lsm\n";
    assert!(said.starts_with(state), "{said}");
    assert_eq!(output.status.code(), Some(0));
    let failed = Status {
        reloads: Some(Reloads {
            error: Some(MISTAKE.into()),
            ..Reloads::default()
        }),
        ..status()
    };
    assert_eq!(
        portguard(&with_status(failed), &["status"]).status.code(),
        Some(1)
    );
}

#[test]
fn commands_report_missing_daemon() {
    let directory = directory();
    let socket = directory.path().join("socket");
    let output = command(&socket, &["status"]).output().unwrap();
    let none = format!(
        "no daemon at {}: start `portguard run`, or give its socket with --socket",
        socket.display()
    );
    let said = text(&output.stdout);
    let start = format!("state        not enforcing\nproblem      {none}\n");
    assert!(said.starts_with(&start), "{said}");
    assert_eq!(output.status.code(), Some(1));
    let output = command(&socket, &["status", "--json"]).output().unwrap();
    let said: Status = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said.enforcing, Enforcing::Inactive);
    for arguments in [
        &["reload"][..],
        &["monitor"],
        &["monitor", "--output", "json"],
    ] {
        let output = command(&socket, arguments).output().unwrap();
        assert_eq!(text(&output.stderr), format!("portguard: {none}\n"));
        assert_eq!(text(&output.stdout), "");
        assert_eq!(output.status.code(), Some(3));
    }
}

#[test]
fn status_reports_refusal() {
    let own = rustix::process::getegid().as_raw();
    let daemon = Daemon::answering(Some(own), |_| {
        Some(Reply::Failed {
            error: "not now".into(),
        })
    });
    let output = portguard(&daemon, &["status"]);
    assert_eq!(
        text(&output.stderr),
        format!(
            "portguard: the daemon at {} refuses: not now\n",
            daemon.socket().display()
        )
    );
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn commands_reject_reply_to_another_request() {
    let own = rustix::process::getegid().as_raw();
    let daemon = Daemon::answering(Some(own), |_| Some(Reply::Monitoring));
    for verb in ["status", "reload"] {
        let output = portguard(&daemon, &[verb]);
        assert_eq!(
            text(&output.stderr),
            "portguard: unexpected reply from the daemon: is it another version?\n"
        );
        assert_eq!(output.status.code(), Some(3), "{verb}");
    }
}

#[test]
fn reload_prints_result() {
    let output = portguard(&Daemon::start(), &["reload"]);
    assert_eq!(
        text(&output.stdout),
        "policy b7b9142ff996 is in force: rules +2 -1, ports no longer protected: 80; weaker than before\n"
    );
    assert_eq!(text(&output.stderr), "web.yaml:3:5: warning: odd\n");
    assert_eq!(output.status.code(), Some(0));
    let output = portguard(&with_status(status()), &["reload"]);
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        format!("{MISTAKE}portguard: reload failed, keeping the previous policy\n")
    );
    assert_eq!(output.status.code(), Some(1));
}

/// A monitor that receives all from here on.
fn monitor(daemon: &Daemon, arguments: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let arguments: Vec<&str> = ["monitor"].iter().chain(arguments).copied().collect();
    let mut child = command(&daemon.socket(), &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let socket = daemon.socket();
    assert_eq!(
        line,
        format!("portguard: monitoring {}\n", socket.display())
    );
    (child, stderr)
}

#[test]
fn monitor_shows_decisions_until_the_daemon_ends() {
    let mut daemon = Daemon::start();
    let (mut json, mut stderr) = monitor(&daemon, &[]);
    let (mut lines, _stderr) = monitor(&daemon, &["--output", "text", "--verdict", "allow"]);
    daemon.publish(decided(1));
    let allowed = DecisionEvent {
        verdict: Verdict::Allow,
        granted: true,
        errno: None,
        ..decided(2)
    };
    daemon.publish(allowed.clone());
    let mut shown = BufReader::new(json.stdout.take().unwrap()).lines();
    for expected in [decided(1), allowed] {
        let shown = shown.next().unwrap().unwrap();
        assert_eq!(shown, serde_json::to_string(&expected).unwrap());
    }
    let mut shown = BufReader::new(lines.stdout.take().unwrap()).lines();
    assert!(shown.next().unwrap().unwrap().starts_with("TIME "));
    let line = shown.next().unwrap().unwrap();
    assert!(line.starts_with("03:04:05.678Z      allow "), "{line}");
    assert!(
        line.ends_with("rule web, capability check skipped"),
        "{line}"
    );
    daemon.end();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(
        said,
        format!(
            "portguard: the daemon at {} has ended\n",
            daemon.socket().display()
        )
    );
    assert_eq!(json.wait().unwrap().code(), Some(3));
    assert_eq!(lines.wait().unwrap().code(), Some(3));
}

#[test]
fn monitor_ends_with_its_reader() {
    let daemon = Daemon::start();
    let (mut child, _stderr) = monitor(&daemon, &[]);
    drop(child.stdout.take());
    // More than one: a process that another test is forking has the pipe until it executes its program.
    let status = loop {
        daemon.publish(decided(1));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    // As `head` wants it.
    assert_eq!(status.signal(), Some(libc::SIGPIPE));
}

#[test]
fn monitor_rejects_invalid_filters() {
    let directory = directory();
    let socket = directory.path().join("socket");
    for (arguments, said) in [
        (
            ["--verdict", "maybe"],
            "[possible values: allow, deny, kernel]",
        ),
        (
            ["--user", "no-such-user"],
            "no such user; numeric ids are accepted",
        ),
        (
            ["--port", "x"],
            "expected a port such as 80 or a range such as 8000-8010",
        ),
        (
            ["--port", "65536"],
            "expected a port such as 80 or a range such as 8000-8010",
        ),
        (
            ["--port", "90-80"],
            "invalid range: the first port is above the last",
        ),
    ] {
        let arguments = [&["monitor"], &arguments[..]].concat();
        let output = command(&socket, &arguments).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(stderr.contains(said), "{stderr}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn monitor_filters_by_names() {
    let daemon = Daemon::start();
    let arguments = ["--user", "root", "--unit", "nginx", "--port", "80-81"];
    let (mut child, _stderr) = monitor(&daemon, &arguments);
    daemon.publish(decided(1));
    daemon.publish(DecisionEvent {
        uid: 0,
        ..decided(2)
    });
    let stdout = child.stdout.take().unwrap();
    let line = BufReader::new(stdout).lines().next().unwrap().unwrap();
    let shown: DecisionEvent = serde_json::from_str(&line).unwrap();
    assert_eq!(shown.pid, Some(2));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn top_needs_a_terminal() {
    let output = portguard(&Daemon::start(), &["monitor", "--top"]);
    assert_eq!(
        text(&output.stderr),
        "portguard: --top needs a terminal; omit it to print decisions\n"
    );
    assert_eq!(output.status.code(), Some(3));
}
