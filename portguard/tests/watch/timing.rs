//! When a change is reported: once it has settled, within the limit, and never lost.

use crate::watched_policy::{DEADLINE, ONE, TWO, WatchedPolicy, directory};
use portguard::watch::{LIMIT, SETTLE, wait_for_writers};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn watch_waits_for_a_file_that_is_still_being_written() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    // Half of it is a valid policy, which denies nothing any more.
    let (half, rest) = TWO.split_at("version: 1\n".len());
    let mut file = fs::File::create(&path).unwrap();
    watched.stays_silent("half of it", || file.write_all(half.as_bytes()).unwrap());
    watched.stays_silent("a change beside it", || {
        fs::write(directory.path().join("z.yaml"), "version: 1\n").unwrap();
    });
    watched.stays_silent("the rest", || file.write_all(rest.as_bytes()).unwrap());
    drop(file);
    assert!(watched.reports_within(DEADLINE), "closed");
    assert_eq!(watched.rules(), ["two"]);
}

#[test]
fn watch_waits_for_a_new_file_to_be_closed() {
    let directory = directory(&[("web.yaml", ONE)]);
    let mut watched = WatchedPolicy::open(directory.path());
    let path = directory.path().join("z.yaml");
    let mut file = None;
    watched.stays_silent("opened", || file = Some(fs::File::create(&path).unwrap()));
    watched.stays_silent("written", || {
        file.as_mut().unwrap().write_all(TWO.as_bytes()).unwrap();
    });
    watched.reports("a link is whole from the first", || {
        fs::hard_link(
            directory.path().join("web.yaml"),
            directory.path().join("l.yaml"),
        )
        .unwrap();
        fs::remove_file(&path).unwrap();
    });
    drop(file);
}

#[test]
fn watch_waits_for_a_file_that_is_appended_to_again_and_again() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fs::write(&path, "version: 1\n").unwrap();
            while !done.load(Ordering::Relaxed) {
                let mut file = fs::File::options().append(true).open(&path).unwrap();
                file.write_all(b"# another line\n").unwrap();
                drop(file);
                std::thread::sleep(SETTLE / 4);
            }
        });
        let early = watched.reports_within(LIMIT * 2);
        done.store(true, Ordering::Relaxed);
        assert!(!early, "reported while it was written");
    });
    assert!(watched.reports_within(DEADLINE), "not reported at the end");
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
fn watch_reports_during_endless_events() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    fs::write(&file, TWO).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut modes = [0o600, 0o640].into_iter().cycle();
            while !done.load(Ordering::Relaxed) {
                let mode = fs::Permissions::from_mode(modes.next().unwrap());
                fs::set_permissions(&file, mode).unwrap();
            }
        });
        let twice =
            watched.reports_within(LIMIT + DEADLINE) && watched.reports_within(LIMIT + DEADLINE);
        done.store(true, Ordering::Relaxed);
        assert!(twice, "starved");
    });
}

#[test]
fn watch_knows_whether_a_writer_began_after_a_change() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    watched.reports("a change", || fs::write(&path, TWO).unwrap());
    assert!(watched.is_quiet());
    let file = fs::File::create(&path).unwrap();
    assert!(!watched.is_quiet(), "it is being written");
    assert!(!watched.reports_within(SETTLE * 3), "it is not closed");
    drop(file);
    assert!(watched.reports_within(DEADLINE), "closed");
    assert!(watched.is_quiet());
}

#[test]
fn start_waits_for_a_file_that_is_being_written() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = directory.path().join("web.yaml");
    let paths = [directory.path().to_owned()];
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..5 {
                fs::write(&path, format!("{ONE}# {number}\n")).unwrap();
                std::thread::sleep(SETTLE / 2);
            }
        });
        std::thread::sleep(SETTLE / 4);
        wait_for_writers(&paths);
    });
    assert!(start.elapsed() >= SETTLE * 2);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let file = fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(old).unwrap();
    let start = std::time::Instant::now();
    wait_for_writers(&paths);
    assert!(start.elapsed() < SETTLE, "an old file is not waited for");
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
