//! What monitors hear, and what becomes of those that do not listen.

use crate::daemon::{Daemon, decided};
use portguard::control::{ControlError, Filter, Monitor, MonitorItem};
use portguard::events::DecisionEvent;
use portguard_common::Verdict;

fn open(daemon: &Daemon) -> Monitor {
    Monitor::open(&daemon.socket(), Filter::default()).unwrap()
}

fn pid(heard: Result<MonitorItem, ControlError>) -> u32 {
    match heard.unwrap() {
        MonitorItem::DecisionEvent(decided, _) => decided.pid,
        MonitorItem::Dropped(dropped) => panic!("{dropped} dropped"),
    }
}

#[test]
fn all_monitors_hear_the_same_from_when_they_came() {
    let daemon = Daemon::start();
    daemon.publish(decided(0));
    let mut monitors: Vec<Monitor> = (0..5).map(|_| open(&daemon)).collect();
    for number in 1..=100 {
        daemon.publish(decided(number));
    }
    for monitor in &mut monitors {
        for number in 1..=100 {
            assert_eq!(pid(monitor.recv()), number);
        }
    }
    let mut late = open(&daemon);
    daemon.publish(decided(101));
    assert_eq!(pid(late.recv()), 101);
    let Ok(MonitorItem::DecisionEvent(heard, line)) = monitors[0].recv() else {
        panic!("no decision");
    };
    assert_eq!(*heard, decided(101));
    assert_eq!(line, serde_json::to_string(&decided(101)).unwrap());
}

#[test]
fn a_slow_monitor_is_told_exactly_what_it_missed_and_slows_nobody() {
    const ALL: u32 = 50_000;
    let daemon = Daemon::start();
    let mut slow = open(&daemon);
    // Nobody reads: publishing must come to its end all the same.
    for number in 0..ALL {
        daemon.publish(decided(number));
    }
    let (mut next, mut missed) = (0, 0);
    while next < ALL {
        match slow.recv().unwrap() {
            MonitorItem::DecisionEvent(decided, _) => {
                assert_eq!(decided.pid, next);
                next += 1;
            }
            MonitorItem::Dropped(dropped) => {
                missed += dropped;
                next += u32::try_from(dropped).unwrap();
            }
        }
    }
    assert!(missed > 0, "all {ALL} decisions fit into the buffers");
}

#[test]
fn one_that_reads_is_not_held_up_by_one_that_does_not() {
    let daemon = Daemon::start();
    let _stuck = open(&daemon);
    let mut quick = open(&daemon);
    for number in 0..5_000 {
        daemon.publish(decided(number));
        // As quick as it gets: nothing may be missed.
        assert_eq!(pid(quick.recv()), number);
    }
}

/// What passes of these, each round the same.
fn passing(filter: &Filter, published: &[DecisionEvent]) -> Vec<u32> {
    let daemon = Daemon::start();
    let mut monitor = Monitor::open(&daemon.socket(), filter.clone()).unwrap();
    for _ in 0..2 {
        published
            .iter()
            .for_each(|decided| daemon.publish(decided.clone()));
    }
    let mut heard = vec![pid(monitor.recv())];
    loop {
        let pid = pid(monitor.recv());
        if pid == heard[0] {
            return heard;
        }
        heard.push(pid);
    }
}

/// Four that differ in all that filters look at.
fn published() -> [DecisionEvent; 4] {
    [
        decided(1),
        DecisionEvent {
            verdict: Verdict::Allow,
            port: 443,
            uid: 33,
            ..decided(2)
        },
        DecisionEvent {
            rule: None,
            port: 8_080,
            cgroup: Some("/user.slice/user@1000.service/app-x\\\\x2d1.scope".into()),
            ..decided(3)
        },
        DecisionEvent {
            cgroup: None,
            rule: Some("rest".into()),
            port: 8_081,
            ..decided(4)
        },
    ]
}

#[test]
fn each_filter_lets_its_own_through() {
    let cases: [(&str, &[u32]); 11] = [
        ("{}", &[1, 2, 3, 4]),
        (r#"{"verdicts":["allow"]}"#, &[2]),
        (r#"{"verdicts":["deny"]}"#, &[1, 3, 4]),
        (r#"{"verdicts":["deny","allow"]}"#, &[1, 2, 3, 4]),
        (r#"{"uids":[33]}"#, &[2]),
        (r#"{"ports":[[443,443],[8080,8090]]}"#, &[2, 3, 4]),
        (r#"{"rules":["web"]}"#, &[1, 2]),
        (r#"{"rules":["","rest"]}"#, &[3, 4]),
        (r#"{"units":["nginx.service"]}"#, &[1, 2]),
        (r#"{"units":["app-x\\x2d1.scope"]}"#, &[3]),
        (r#"{"verdicts":["deny"],"units":["nginx.service"]}"#, &[1]),
    ];
    for (filter, expected) in cases {
        let parsed: Filter = serde_json::from_str(filter).unwrap();
        assert_eq!(passing(&parsed, &published()), expected, "{filter}");
    }
}

#[test]
fn one_that_goes_is_forgotten_though_nothing_happens() {
    let daemon = Daemon::start();
    let monitor = open(&daemon);
    assert_eq!(daemon.monitors(), 1);
    drop(monitor);
    while daemon.monitors() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn the_daemons_end_is_heard() {
    let mut daemon = Daemon::start();
    let mut monitor = open(&daemon);
    daemon.end();
    assert_eq!(
        monitor.recv().map(|_| ()).unwrap_err().to_string(),
        format!("the daemon at {} has ended", daemon.socket().display())
    );
}
