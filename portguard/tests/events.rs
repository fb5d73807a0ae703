//! The JSON line of a decision event: its bytes are a contract.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use portguard::events::DecisionEvent;
use portguard::events::sinks::Format;

fn denied() -> DecisionEvent {
    DecisionEvent {
        time: "2026-01-02T03:04:05.678901234Z".into(),
        verdict: "deny".into(),
        enforced: true,
        granted: false,
        rule: Some("web".into()),
        policy: "0123456789ab".into(),
        port: 80,
        protocol: "tcp".into(),
        family: "inet".into(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        uid: 1000,
        user: Some("alice".into()),
        euid: 0,
        gid: 1000,
        pid: 4242,
        comm: "ncat".into(),
        exe: None,
        cgroup: Some("/user.slice".into()),
        cgroup_id: 7,
        netns: 1,
        hook: "lsm".into(),
        errno: Some("EACCES".into()),
        count: 1,
    }
}

fn granted() -> DecisionEvent {
    DecisionEvent {
        verdict: "allow".into(),
        granted: true,
        rule: None,
        protocol: "udp".into(),
        family: "inet6".into(),
        address: std::net::Ipv6Addr::UNSPECIFIED.into(),
        user: None,
        exe: Some("/usr/bin/ncat".into()),
        cgroup: None,
        hook: "cgroup".into(),
        errno: None,
        count: 12,
        ..denied()
    }
}

const DENIED: &str = r#"{"time":"2026-01-02T03:04:05.678901234Z","verdict":"deny","enforced":true,"granted":false,"rule":"web","policy":"0123456789ab","port":80,"protocol":"tcp","family":"inet","address":"127.0.0.1","uid":1000,"user":"alice","euid":0,"gid":1000,"pid":4242,"comm":"ncat","exe":null,"cgroup":"/user.slice","cgroup_id":7,"netns":1,"hook":"lsm","errno":"EACCES","count":1}
"#;

const GRANTED: &str = r#"{"time":"2026-01-02T03:04:05.678901234Z","verdict":"allow","enforced":true,"granted":true,"rule":null,"policy":"0123456789ab","port":80,"protocol":"udp","family":"inet6","address":"::","uid":1000,"user":null,"euid":0,"gid":1000,"pid":4242,"comm":"ncat","exe":"/usr/bin/ncat","cgroup":null,"cgroup_id":7,"netns":1,"hook":"cgroup","errno":null,"count":12}
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
