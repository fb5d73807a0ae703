//! When a change is told: once it has settled, in time all the same, and never lost.

use crate::eye::{DEADLINE, Eye, ONE, TWO, directory};
use portguard::watch::{LIMIT, SETTLE};
use portguard_policy::policy::{SystemNames, load};
use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_half_written_file_is_told_again_when_it_is_whole() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    let (half, rest) = TWO.split_at(TWO.len() - 8);
    let mut file = fs::File::create(&path).unwrap();
    eye.sees("half of it", || file.write_all(half.as_bytes()).unwrap());
    assert!(load(&eye.paths, &SystemNames::LOCAL).is_err());
    eye.sees("the rest", || file.write_all(rest.as_bytes()).unwrap());
    assert_eq!(eye.rules(), ["two"]);
    eye.ignores("closed", || drop(file));
}

#[test]
fn several_steps_are_told_once() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    eye.sees("a hundred writes", || {
        for number in 0..100 {
            fs::write(&file, format!("{ONE}# {number}\n")).unwrap();
        }
    });
    assert!(!eye.told(SETTLE * 3), "told twice");
}

#[test]
fn a_writer_without_end_does_not_starve_the_reader() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !done.load(Ordering::Relaxed) {
                fs::write(&file, format!("{ONE}# {number}\n")).unwrap();
                number += 1;
            }
        });
        let twice = eye.told(LIMIT + DEADLINE) && eye.told(LIMIT + DEADLINE);
        done.store(true, Ordering::Relaxed);
        assert!(twice, "starved");
    });
}

#[test]
fn a_caller_that_gives_up_waiting_loses_nothing() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    fs::write(&file, TWO).unwrap();
    let until = std::time::Instant::now() + DEADLINE;
    // Each time far less than a change takes to settle.
    while !eye.told(SETTLE / 20) {
        assert!(std::time::Instant::now() < until, "lost");
    }
}

#[test]
fn events_that_the_queue_cannot_hold() {
    let directory = directory(&[("web.yaml", ONE)]);
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    fs::write(&a, "").unwrap();
    let mut eye = Eye::on(directory.path());
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // None of these concerns the policy; that there were more of them than the kernel keeps does.
    for _ in 0..=queue.trim().parse::<u32>().unwrap() / 4 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    assert!(eye.told(DEADLINE), "the overflow was not told");
    eye.sees("written after it", || {
        fs::write(directory.path().join("web.yaml"), TWO).unwrap();
    });
}
