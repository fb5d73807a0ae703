//! journald's end of its native protocol, as a datagram socket.

use crate::{LONG, decided, event, open, until};
use portguard::events::sinks::SinkSpec;
use portguard::events::{DecisionEvent, SharedEvent};
use portguard_common::Verdict;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSliceMut, Read as _, Seek as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

/// Reads an entry as systemd.io/JOURNAL_NATIVE_PROTOCOL says.
fn parse(mut entry: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, rest) = entry.split_at(end);
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                entry = &rest[1..];
                (&line[..equals], &line[equals + 1..])
            }
            None => {
                let length = u64::from_le_bytes(rest[1..9].try_into().unwrap());
                let (value, rest) = rest[9..].split_at(usize::try_from(length).unwrap());
                entry = rest.strip_prefix(b"\n").unwrap();
                (line, value)
            }
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(fields.insert(text(name), text(value)).is_none());
    }
    fields
}

/// One entry, from the datagram or from the file that came with it.
fn receive(socket: &UnixDatagram) -> BTreeMap<String, String> {
    let mut bytes = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::empty()).unwrap();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            let mut file = File::from(descriptors.next().unwrap());
            let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
            assert!(seals.contains(rustix::fs::SealFlags::WRITE));
            let mut entry = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut entry).unwrap();
            assert_eq!(received.bytes, 0);
            return parse(&entry);
        }
    }
    parse(&bytes[..received.bytes])
}

#[test]
fn journald_sink_sends_every_field() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let mut sinks = open(SinkSpec::Journald(path));
    let event = event(80, 12);
    sinks.send(&Arc::new(event.clone().into()));
    let fields = receive(&journal);
    assert_eq!(
        fields["MESSAGE"],
        "deny tcp/80 127.0.0.1 by alice(1000) as 0 ncat[4242] in /user.slice: rule web, EACCES, x12"
    );
    assert_eq!(fields["PRIORITY"], "4");
    assert_eq!(fields["SYSLOG_IDENTIFIER"], "portguard");
    assert!(!fields.contains_key("OBJECT_SYSTEMD_UNIT"));
    let object = serde_json::to_value(&event).unwrap();
    for (name, value) in object.as_object().unwrap() {
        let field = fields.get(&format!("PORTGUARD_{}", name.to_uppercase()));
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), String::from);
        let expected = (!value.is_null()).then_some(text);
        assert_eq!(field.cloned(), expected, "{name}");
    }
    sinks.send(&Arc::new(SharedEvent::new(DecisionEvent {
        verdict: Verdict::Allow,
        ..event
    })));
    assert_eq!(receive(&journal)["PRIORITY"], "6");
    sinks.close(LONG);
    assert_eq!(sinks.dropped()["journald"], 0);
}

#[test]
fn journald_sink_names_the_unit_and_the_message() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let mut sinks = open(SinkSpec::Journald(path));
    let of = |cgroup: &str| DecisionEvent {
        cgroup: Some(cgroup.to_owned()),
        ..event(80, 1)
    };
    let refused = of(r"/system.slice/system-a\\x2db.slice/a-b@1.service/worker");
    sinks.send(&Arc::new(refused.into()));
    let refused = receive(&journal);
    assert_eq!(refused["OBJECT_SYSTEMD_UNIT"], "a-b@1.service");
    let decided = DecisionEvent {
        errno: None,
        ..of("/user.slice/user-0.slice/user@0.service/nginx.service")
    };
    sinks.send(&Arc::new(decided.into()));
    let decided = receive(&journal);
    assert_eq!(decided["OBJECT_SYSTEMD_UNIT"], "user@0.service");

    let catalog = include_str!("../../../dist/systemd/portguard.catalog");
    for fields in [&refused, &decided] {
        let entry = format!("\n-- {}\n", fields["MESSAGE_ID"]);
        let (_, text) = catalog.split_once(&entry).unwrap();
        let text = text.split("\n-- ").next().unwrap();
        assert!(text.starts_with("Subject: "), "{text}");
        // Odd parts are between two @.
        for name in text.split('@').skip(1).step_by(2) {
            assert!(fields.contains_key(name), "@{name}@: {fields:?}");
        }
    }
    sinks.close(LONG);
}

#[test]
fn journald_sink_sends_large_fields_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let mut sinks = open(SinkSpec::Journald(path));
    for rule in ["a\nPRIORITY=0\nb".to_owned(), "large".repeat(100_000)] {
        sinks.send(&Arc::new(SharedEvent::new(DecisionEvent {
            rule: Some(rule.clone()),
            ..event(80, 1)
        })));
        let fields = receive(&journal);
        assert_eq!(fields["PORTGUARD_RULE"], rule);
        assert_eq!(fields["PRIORITY"], "4");
    }
    sinks.close(LONG);
    assert_eq!(sinks.dropped()["journald"], 0);
}

#[test]
fn journald_sink_survives_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let mut sinks = open(SinkSpec::Journald(path.clone()));
    drop(journal);
    sinks.send(&decided(80, 5));
    until("a counted drop", || sinks.dropped()["journald"] == 5);
    std::fs::remove_file(&path).unwrap();
    let journal = UnixDatagram::bind(&path).unwrap();
    sinks.send(&decided(81, 1));
    assert_eq!(receive(&journal)["PORTGUARD_PORT"], "81");
    sinks.close(LONG);
    assert_eq!(sinks.dropped()["journald"], 5);
}
