//! When a change is reported: once it has settled, within the limit, and never lost.

use crate::watched_policy::{DEADLINE, ONE, TWO, WatchedPolicy, directory};
use portguard::watch::{LIMIT, SETTLE};
use portguard_policy::policy::{SystemNames, load};
use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn watch_reports_a_half_written_file_again_when_complete() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    let (half, rest) = TWO.split_at(TWO.len() - 8);
    let mut file = fs::File::create(&path).unwrap();
    watched.reports("half of it", || file.write_all(half.as_bytes()).unwrap());
    assert!(load(&watched.paths, &SystemNames::LOCAL).is_err());
    watched.reports("the rest", || file.write_all(rest.as_bytes()).unwrap());
    assert_eq!(watched.rules(), ["two"]);
    watched.ignores("closed", || drop(file));
}

#[test]
fn watch_reports_several_steps_once() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    watched.reports("a hundred writes", || {
        for number in 0..100 {
            fs::write(&file, format!("{ONE}# {number}\n")).unwrap();
        }
    });
    assert!(!watched.reports_within(SETTLE * 3), "reported twice");
}

#[test]
fn watch_reports_during_endless_writes() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !done.load(Ordering::Relaxed) {
                fs::write(&file, format!("{ONE}# {number}\n")).unwrap();
                number += 1;
            }
        });
        let twice =
            watched.reports_within(LIMIT + DEADLINE) && watched.reports_within(LIMIT + DEADLINE);
        done.store(true, Ordering::Relaxed);
        assert!(twice, "starved");
    });
}

#[test]
fn watch_is_cancel_safe() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    fs::write(&file, TWO).unwrap();
    let until = std::time::Instant::now() + DEADLINE;
    // Each time far less than a change takes to settle.
    while !watched.reports_within(SETTLE / 20) {
        assert!(std::time::Instant::now() < until, "lost");
    }
}

#[test]
fn watch_reports_a_queue_overflow() {
    let directory = directory(&[("web.yaml", ONE)]);
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    fs::write(&a, "").unwrap();
    let mut watched = WatchedPolicy::open(directory.path());
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // None of these events is about the policy, but the overflow of the queue must be reported.
    for _ in 0..=queue.trim().parse::<u32>().unwrap() / 4 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    assert!(
        watched.reports_within(DEADLINE),
        "the overflow was not reported"
    );
    watched.reports("written after it", || {
        fs::write(directory.path().join("web.yaml"), TWO).unwrap();
    });
}
