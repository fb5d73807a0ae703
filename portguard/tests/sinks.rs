//! Sinks, against real files, pipes and sockets: what is not written is counted, and no line is broken.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

#[cfg(feature = "otlp")]
#[path = "sinks/collector.rs"]
mod collector;
#[path = "sinks/files.rs"]
mod files;
#[path = "sinks/journal.rs"]
mod journal;
#[path = "sinks/readers.rs"]
mod readers;

use portguard::events::sinks::{Format, SinkError, SinkSpec, Sinks};
use portguard::events::{DecisionEvent, SharedEvent};
use portguard::sandbox::Sandbox;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Names the directory of a test that runs again in a process of its own.
const CHILD: &str = "PORTGUARD_TEST_CHILD";

fn decided(port: u16, count: u64) -> Arc<SharedEvent> {
    Arc::new(event(port, count).into())
}

fn event(port: u16, count: u64) -> DecisionEvent {
    DecisionEvent {
        port,
        count,
        ..serde_json::from_str(include_str!("event.json")).unwrap()
    }
}

fn open(spec: SinkSpec) -> Sinks {
    Sinks::open(&[spec], Format::Json, &Sandbox::off()).unwrap()
}

/// The ports of the lines of a file, each of which must be whole.
fn ports(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let port = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["port"].as_u64().unwrap()
    };
    text.lines().map(port).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The directory of a test that was started by [`child`].
fn as_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// The test of that name in a process of its own, begun by `wrapper`.
fn child(wrapper: &[&str], test: &str, directory: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(PathBuf::from).chain([this]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args([test, "--exact", "--nocapture"]);
    command.env(CHILD, directory);
    command
}

fn error(specs: &[SinkSpec]) -> String {
    let sinks = Sinks::open(specs, Format::Json, &Sandbox::off());
    sinks.err().unwrap().to_string()
}

#[test]
fn sink_errors_name_the_sink_and_the_fix() {
    assert_eq!(
        error(&[SinkSpec::File("/no/such/file".into())]),
        "--sink file:/no/such/file: cannot open it: No such file or directory (os error 2); check that its \
         directory exists and is writable"
    );
    assert_eq!(
        error(&[SinkSpec::Journald("/no/journal".into())]),
        "--sink journald: cannot reach /no/journal: No such file or directory (os error 2); start \
         systemd-journald or omit this sink"
    );
    let file = || SinkSpec::File("/dev/null".into());
    assert_eq!(
        error(&[file(), file()]),
        "--sink file:/dev/null is given twice: give it once"
    );
    assert_eq!(
        error(&[SinkSpec::None, file()]),
        "--sink none cannot be combined with other sinks: omit it or the others"
    );
    let thread = SinkError::System {
        sink: "stdout",
        what: "start its thread",
        source: std::io::ErrorKind::OutOfMemory.into(),
    };
    assert_eq!(
        thread.to_string(),
        "--sink stdout: cannot start its thread: out of memory"
    );
}

#[test]
fn sink_none_drops_nothing() {
    let mut sinks = open(SinkSpec::None);
    sinks.send(&decided(80, 1));
    sinks.close(LONG);
    assert!(sinks.dropped().is_empty());
}
