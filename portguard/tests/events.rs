//! The JSON line of a decision event: its bytes are a contract.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use portguard::events::sinks::Format;
use portguard::events::{DecisionEvent, Mode};
use portguard_common::{Errno, Family, Hook, Protocol, Reason, Verdict};

fn denied() -> DecisionEvent {
    DecisionEvent {
        time: "2026-01-02T03:04:05.678901234Z".into(),
        verdict: Verdict::Deny,
        enforced: true,
        mode: Mode::Enforce,
        granted: false,
        rule: Some("web".into()),
        policy: "0123456789ab".into(),
        revision: "fedcba987654".into(),
        port: 80,
        protocol: Protocol::Tcp,
        family: Family::Inet,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        v6only: None,
        uid: 1000,
        user: Some("alice".into()),
        euid: 0,
        gid: 1000,
        egid: 1000,
        userns_owner: None,
        pid: Some(4242),
        ppid: Some(4200),
        start_time: Some(123_456),
        comm: Some("ncat".into()),
        exe: None,
        exe_cut: false,
        exe_deleted: false,
        exe_dev: None,
        exe_inode: None,
        cgroup: Some("/user.slice".into()),
        cgroup_cut: false,
        cgroup_id: 7,
        unit: None,
        container_id: None,
        pod_uid: None,
        netns: 1,
        hook: Hook::Lsm,
        errno: Some(Errno::Acces),
        count: 1,
        several: false,
        reason: Reason::None,
        host: "edge-1".into(),
        boot_id: Some("5e0c1d2f-3a4b-4c5d-8e6f-708192a3b4c5".into()),
    }
}

fn granted() -> DecisionEvent {
    DecisionEvent {
        verdict: Verdict::Allow,
        granted: true,
        rule: None,
        protocol: Protocol::Udp,
        family: Family::Inet6,
        address: std::net::Ipv6Addr::UNSPECIFIED.into(),
        v6only: Some(true),
        user: None,
        pid: None,
        ppid: None,
        start_time: None,
        comm: None,
        several: true,
        exe: Some("/usr/bin/ncat (deleted)".into()),
        exe_deleted: true,
        exe_dev: Some("254:1".into()),
        exe_inode: Some(12),
        cgroup: None,
        hook: Hook::Cgroup,
        errno: None,
        count: 12,
        reason: Reason::UnresolvedCgroup,
        ..denied()
    }
}

const DENIED: &str = include_str!("event.json");

const GRANTED: &str = r#"{"time":"2026-01-02T03:04:05.678901234Z","verdict":"allow","enforced":true,"mode":"enforce","granted":true,"rule":null,"policy":"0123456789ab","revision":"fedcba987654","port":80,"protocol":"udp","family":"inet6","address":"::","v6only":true,"uid":1000,"user":null,"euid":0,"gid":1000,"egid":1000,"userns_owner":null,"pid":null,"ppid":null,"start_time":null,"comm":null,"exe":"/usr/bin/ncat (deleted)","exe_cut":false,"exe_deleted":true,"exe_dev":"254:1","exe_inode":12,"cgroup":null,"cgroup_cut":false,"cgroup_id":7,"unit":null,"container_id":null,"pod_uid":null,"netns":1,"hook":"cgroup","errno":null,"count":12,"several":true,"reason":"unresolved_cgroup","host":"edge-1","boot_id":"5e0c1d2f-3a4b-4c5d-8e6f-708192a3b4c5"}
"#;

#[test]
fn event_line_is_golden() {
    assert_eq!(Format::Json.line(&denied()), DENIED);
    assert_eq!(Format::Json.line(&granted()), GRANTED);
}

#[test]
fn event_line_reads_back() {
    for event in [denied(), granted()] {
        let line = Format::Json.line(&event);
        let read: DecisionEvent = serde_json::from_str(&line).unwrap();
        assert_eq!(read, event);
    }
}

#[test]
fn event_with_unknown_word_names_the_field() {
    for (known, unknown, says) in [
        (
            r#""verdict":"deny""#,
            r#""verdict":"maybe""#,
            "unknown verdict `maybe`: expected allow, deny or kernel",
        ),
        (
            r#""protocol":"tcp""#,
            r#""protocol":"quic""#,
            "unknown protocol `quic`: expected tcp, udp, sctp or dccp",
        ),
        (
            r#""family":"inet""#,
            r#""family":"unix""#,
            "unknown family `unix`: expected inet or inet6",
        ),
        (
            r#""hook":"lsm""#,
            r#""hook":"xdp""#,
            "unknown hook `xdp`: expected lsm or cgroup",
        ),
        (
            r#""errno":"EACCES""#,
            r#""errno":"ENOENT""#,
            "unknown errno `ENOENT`: expected EACCES, EPERM or EADDRINUSE",
        ),
        (
            r#""reason":null"#,
            r#""reason":"weather""#,
            "unknown reason `weather`: expected no_memory or unresolved_cgroup",
        ),
        (
            r#""hook":"lsm""#,
            r#""hook":1"#,
            "invalid type: integer `1`, expected hook: lsm or cgroup",
        ),
    ] {
        let line = DENIED.replace(known, unknown);
        let error = serde_json::from_str::<DecisionEvent>(&line).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

fn schema() -> serde_json::Value {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portguard"));
    let output = command.args(["schema", "--event"]).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn event_schema_accepts_events() {
    let schema = schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let validator = jsonschema::validator_for(&schema).unwrap();
    for line in [DENIED, GRANTED] {
        let event = serde_json::from_str(line).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&event)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        // Every field is described, and none is optional.
        let fields = event.as_object().unwrap();
        for field in fields.keys() {
            assert!(schema["properties"][field].is_object(), "{field}");
            let mut less = fields.clone();
            less.remove(field);
            assert!(!validator.is_valid(&less.into()), "{field}");
        }
    }
}

#[test]
fn event_schema_rejects_unknown_words() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for field in ["verdict", "protocol", "family", "hook", "errno"] {
        let mut event: serde_json::Value = serde_json::from_str(DENIED).unwrap();
        event[field] = "maybe".into();
        assert!(!validator.is_valid(&event), "{field}");
    }
}
