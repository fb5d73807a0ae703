//! Records of the ring buffer -> events -> lines: no bytes make it panic, and nothing that a process
//! chooses reaches a terminal as anything but text.
//!
//! An input is a run of records, each behind its length in two bytes (little endian), so that one can
//! name a cgroup of which the next decision speaks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portguard::events::cgroup_paths::CgroupPaths;
use portguard::events::sinks::{Format, Layout};
use portguard::events::{DecisionEvent, Enricher};
use portguard::kernel::{Features, Record, parse_record};
use portguard::status::Description;
use portguard_policy::compile::compile;
use portguard_policy::policy::Policy;
use std::path::Path;
use std::sync::LazyLock;

/// What is known of an empty policy, the first of a daemon.
static POLICY: LazyLock<Option<Description>> = LazyLock::new(|| {
    let policy = Policy::default();
    let tables = compile(&policy).ok()?;
    Some(Description::new(&policy, &tables, &[], String::new()))
});

fuzz_target!(|bytes: &[u8]| {
    let Some(policy) = POLICY.as_ref() else {
        panic!("the empty policy does not compile");
    };
    // No such tree: what an input says must not depend on the cgroups of this machine.
    let paths = CgroupPaths::new(Path::new("/nonexistent"));
    let features = Features {
        grants: true,
        set_errno: bytes.len().is_multiple_of(2),
    };
    let mut enricher = Enricher::new(features, paths);
    enricher.register_policy(policy);
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (record, after) = after.split_at(length);
        rest = after;
        match parse_record(record) {
            Some(Record::Decision(event)) => {
                if let Some(event) = enricher.enrich(&event.into()) {
                    check(&event);
                }
            }
            Some(Record::Cgroup { id, path, missing }) => {
                enricher.cgroups.learn(id, &path, missing);
                let path = enricher.cgroups.path(id).map(|path| path.text);
                let path = path.unwrap_or_default();
                assert!(path.starts_with('/'), "no path: {path:?}");
                plain(&path);
            }
            Some(Record::Executable {
                id,
                path,
                rootless,
                missing,
            }) => {
                enricher.executables.learn(id, &path, rootless, missing);
                if let Some(path) = enricher.executables.path(id) {
                    plain(&path.text);
                }
            }
            None => {}
        }
    }
});

/// Both kinds of line.
fn check(decided: &DecisionEvent) {
    let json = one_line(Format::Json, decided);
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(&json);
    let parsed = parsed.unwrap_or_else(|error| panic!("no JSON: {error}: {json:?}"));
    assert_eq!(parsed["comm"].as_str(), decided.comm.as_deref());
    assert_eq!(parsed["exe"].as_str(), decided.exe.as_deref());
    assert_eq!(parsed["cgroup"].as_str(), decided.cgroup.as_deref());
    let layout = Layout {
        color: false,
        columns: None,
    };
    one_line(Format::Text(layout), decided);
}

/// The line without its newline, which is its only one.
fn one_line(format: Format, decided: &DecisionEvent) -> String {
    let line = format.line(decided);
    let text = line.strip_suffix('\n');
    let text = text.unwrap_or_else(|| panic!("no newline behind {line:?}"));
    plain(text);
    text.to_owned()
}

/// No control character, and none that turns the text around it: Unicode's `Bidi_Control`.
fn plain(text: &str) {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let found = text.chars().find(|c| c.is_control() || turns(*c));
    assert_eq!(found, None, "not only text: {text:?}");
}
