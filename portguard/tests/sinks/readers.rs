//! Readers that do not read: nothing waits for them, and what they drop is counted.

use crate::{LONG, as_child, child, decided, event, open, ports, until};
use portguard::events::sinks::{Format, SinkSpec, Sinks};
use portguard::events::{DecisionEvent, SharedEvent};
use portguard::sandbox::Sandbox;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pipe in the file system, without a reader.
fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    path
}

#[test]
fn sink_without_reader_does_not_affect_others() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("decisions.jsonl");
    let choices = [fifo(directory.path()), file.clone()].map(SinkSpec::File);
    let mut sinks = Sinks::open(&choices, Format::Json, &Sandbox::off()).unwrap();
    // Both count under one name: what the pipe drops, the file must not.
    for round in 0..20 {
        for _ in 0..1_000 {
            sinks.send(&decided(80, 1));
        }
        let lines = (round + 1) * 1_000;
        until("the file's lines", || ports_so_far(&file) == lines);
    }
    assert!(sinks.dropped()["file"] > 10_000);
    sinks.close(Duration::ZERO);
    assert_eq!(ports(&file).len(), 20_000);
}

fn ports_so_far(path: &Path) -> usize {
    let text = std::fs::read(path).unwrap();
    text.iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn sink_writes_or_counts_every_decision() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    let mut sinks = open(SinkSpec::File(path.clone()));
    for _ in 0..20_000 {
        sinks.send(&decided(80, 3));
    }
    assert!(sinks.dropped()["file"] > 3 * 10_000);
    let reader = BufReader::new(File::open(path).unwrap());
    let reader = std::thread::spawn(move || {
        let count = |line: std::io::Result<String>| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            event["count"].as_u64().unwrap()
        };
        reader.lines().map(count).sum::<u64>()
    });
    sinks.close(LONG);
    // The writing end is closed with the thread, so the reader comes to an end.
    let read = reader.join().unwrap();
    assert_eq!(read + sinks.dropped()["file"], 60_000);
}

#[test]
fn sink_close_does_not_wait_for_hanging_reader() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    let mut sinks = open(SinkSpec::File(path.clone()));
    let mut reader = File::options().read(true).write(true).open(path).unwrap();
    for _ in 0..5_000 {
        sinks.send(&decided(80, 1));
    }
    until("a full pipe", || {
        let mut state = [PollFd::new(&reader, PollFlags::OUT)];
        poll(&mut state, Some(&Timespec::default())).unwrap() == 0
    });
    let begin = Instant::now();
    sinks.close(Duration::from_millis(300));
    assert!(begin.elapsed() < LONG / 2);
    let dropped = sinks.dropped()["file"];
    assert!((4_000..5_000).contains(&dropped), "{dropped}");
    // What was written before the end is what is in the pipe.
    let mut in_pipe = vec![0; 1 << 20];
    let read = reader.read(&mut in_pipe).unwrap();
    let whole = in_pipe[..read]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    assert_eq!(whole as u64 + dropped, 5_000);
}

/// How many of 5,000 large events a sink that nobody reads keeps, where another reader has each of them too or not.
fn waiting(shared: bool) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let mut sinks = open(SinkSpec::File(fifo(directory.path())));
    for _ in 0..5_000 {
        let large = Arc::new(SharedEvent::new(DecisionEvent {
            exe: Some("\\u{7f}".repeat(4_096)),
            ..event(80, 1)
        }));
        let _other = shared.then(|| Arc::clone(&large));
        sinks.send(&large);
    }
    let waiting = 5_000 - sinks.dropped()["file"];
    sinks.close(Duration::ZERO);
    waiting
}

#[test]
fn sink_queue_is_bounded_in_bytes() {
    let alone = waiting(false);
    assert!((150..200).contains(&alone), "{alone}");
    // Then the line, as large as the event, may wait too.
    let shared = waiting(true);
    assert!((75..100).contains(&shared), "{shared}");
}

#[test]
fn stdout_sink_reports_closed_pipe_once() {
    const TEST: &str = "readers::stdout_sink_reports_closed_pipe_once";
    if as_child().is_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = child(&[], TEST, directory.path());
        // With one thread the harness would announce the test on the closed pipe.
        command.env("RUST_TEST_THREADS", "2").stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun = said
            .map(Result::unwrap)
            .any(|line| line == "running 1 test");
        assert!(begun);
        // `any` has closed the pipe; this tells the child.
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("500 were dropped\n"), "{said}");
        let outage = "portguard: sink stdout: cannot write decisions: Broken pipe (os error 32); ";
        assert_eq!(said.matches(outage).count(), 1, "{said}");
        return;
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let mut sinks = open(SinkSpec::Stdout);
    for _ in 0..100 {
        sinks.send(&decided(80, 5));
    }
    sinks.close(LONG);
    eprintln!("{} were dropped", sinks.dropped()["stdout"]);
    // The harness would fail to say that all went well.
    std::process::exit(0);
}
