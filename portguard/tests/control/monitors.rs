//! The events that monitors receive, and what they drop.

use crate::daemon::{Daemon, decided};
use portguard::control::{ControlError, Filter, Monitor, MonitorItem};
use portguard::events::DecisionEvent;
use portguard_common::Verdict;

fn open(daemon: &Daemon) -> Monitor {
    Monitor::open(&daemon.socket(), Filter::default()).unwrap()
}

fn pid(item: Result<MonitorItem, ControlError>) -> u32 {
    match item.unwrap() {
        MonitorItem::DecisionEvent(decided, _) => decided.pid.unwrap(),
        MonitorItem::Dropped(dropped) => panic!("{dropped} dropped"),
    }
}

#[test]
fn monitors_receive_all_later_events() {
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
    let Ok(MonitorItem::DecisionEvent(event, line)) = monitors[0].recv() else {
        panic!("no decision");
    };
    assert_eq!(*event, decided(101));
    assert_eq!(line, serde_json::to_string(&decided(101)).unwrap());
}

#[test]
fn monitor_counts_dropped_events_exactly() {
    const ALL: u32 = 50_000;
    let daemon = Daemon::start();
    let mut slow = open(&daemon);
    // Without a reader, publishing must still end.
    for number in 0..ALL {
        daemon.publish(decided(number));
    }
    let (mut next, mut missed) = (0, 0);
    while next < ALL {
        match slow.recv().unwrap() {
            MonitorItem::DecisionEvent(decided, _) => {
                assert_eq!(decided.pid, Some(next));
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
fn monitor_is_not_delayed_by_slow_one() {
    let daemon = Daemon::start();
    let _stuck = open(&daemon);
    let mut quick = open(&daemon);
    for number in 0..5_000 {
        daemon.publish(decided(number));
        // As quick as it gets: nothing may be missed.
        assert_eq!(pid(quick.recv()), number);
    }
}

/// The pids of the events that pass the filter, published twice.
fn passing(filter: &Filter, published: &[DecisionEvent]) -> Vec<u32> {
    let daemon = Daemon::start();
    let mut monitor = Monitor::open(&daemon.socket(), filter.clone()).unwrap();
    for _ in 0..2 {
        published
            .iter()
            .for_each(|decided| daemon.publish(decided.clone()));
    }
    let mut pids = vec![pid(monitor.recv())];
    loop {
        let pid = pid(monitor.recv());
        if pid == pids[0] {
            return pids;
        }
        pids.push(pid);
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
            cgroup: Some("/user.slice/app-x\\\\x2d1.scope".into()),
            ..decided(3)
        },
        DecisionEvent {
            // Its names are the user's.
            cgroup: Some("/user.slice/user@1000.service/nginx.service".into()),
            rule: Some("rest".into()),
            port: 8_081,
            ..decided(4)
        },
    ]
}

#[test]
fn monitor_filters_match() {
    let cases: [(&str, &[u32]); 12] = [
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
        (r#"{"units":["user@1000.service"]}"#, &[4]),
        (r#"{"verdicts":["deny"],"units":["nginx.service"]}"#, &[1]),
    ];
    for (filter, expected) in cases {
        let parsed: Filter = serde_json::from_str(filter).unwrap();
        assert_eq!(passing(&parsed, &published()), expected, "{filter}");
    }
}

#[test]
fn monitor_that_closes_is_removed() {
    let daemon = Daemon::start();
    let monitor = open(&daemon);
    assert_eq!(daemon.monitors(), 1);
    drop(monitor);
    while daemon.monitors() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn monitor_reports_end_of_daemon() {
    let mut daemon = Daemon::start();
    let mut monitor = open(&daemon);
    daemon.end();
    assert_eq!(
        monitor.recv().map(|_| ()).unwrap_err().to_string(),
        format!("the daemon at {} has ended", daemon.socket().display())
    );
}
