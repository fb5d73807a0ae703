//! The clients' access. A thread changes its ids: the kernel identifies peers by the thread that connects.

use crate::daemon::{Daemon, decided, is_root};
use portguard::control::{CLIENTS, Filter, MONITORS, Monitor, MonitorItem, Reply, Request, ask};
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::os::unix::fs::PermissionsExt as _;

const GROUP: u32 = 4_321;
const OTHER: u32 = 4_322;

/// Runs it as uid 1000 with these groups.
fn run_as<T: Send>(gid: u32, groups: &[u32], does: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            set_thread_groups(&groups).unwrap();
            let (gid, uid) = (Gid::from_raw(gid), Uid::from_raw(1_000));
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            does()
        });
        thread.join().unwrap()
    })
}

fn status_as(daemon: &Daemon, gid: u32, groups: &[u32]) -> Result<Reply, String> {
    let path = daemon.socket();
    let asked = || ask(&path, &Request::Status).map_err(|error| error.to_string());
    run_as(gid, groups, asked)
}

#[test]
fn peers_of_group_have_access() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::of_group(Some(GROUP));
    assert!(matches!(
        status_as(&daemon, GROUP, &[]),
        Ok(Reply::Status(_))
    ));
    let many: Vec<u32> = (5_000..5_100).chain([GROUP]).collect();
    assert!(matches!(
        status_as(&daemon, OTHER, &many),
        Ok(Reply::Status(_))
    ));
    assert!(matches!(
        ask(&daemon.socket(), &Request::Status),
        Ok(Reply::Status(_))
    ));
    assert_eq!(
        status_as(&daemon, OTHER, &[OTHER]),
        Err(format!(
            "no permission to connect to {}: only root and the group {GROUP} have access",
            daemon.socket().display()
        ))
    );
}

#[test]
fn peers_without_group_must_be_root() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::of_group(None);
    assert_eq!(
        status_as(&daemon, OTHER, &[]),
        Err(format!(
            "no permission to connect to {}: only root has access; \
             `portguard run --socket-group NAME` gives it to a group",
            daemon.socket().display()
        ))
    );
}

#[test]
fn peers_are_checked_whatever_the_mode() {
    if !is_root() {
        return;
    }
    let failed = |error: &str| {
        Ok(Reply::Failed {
            error: error.into(),
        })
    };
    let open = std::fs::Permissions::from_mode(0o666);
    let daemon = Daemon::of_group(Some(GROUP));
    std::fs::set_permissions(daemon.socket(), open.clone()).unwrap();
    assert_eq!(
        status_as(&daemon, OTHER, &[OTHER]),
        failed("uid 1000 has no access: only root and the group 4321 have")
    );
    let daemon = Daemon::of_group(None);
    std::fs::set_permissions(daemon.socket(), open).unwrap();
    assert_eq!(
        status_as(&daemon, GROUP, &[]),
        failed("uid 1000 has no access: only root has")
    );
}

/// Opens monitors until one is refused.
fn flood(daemon: &Daemon) -> (Vec<Monitor>, String) {
    let limits = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limits.maximum,
        ..limits
    };
    setrlimit(Resource::Nofile, most).unwrap();
    let mut monitors = Vec::new();
    loop {
        match Monitor::open(&daemon.socket(), Filter::default()) {
            Ok(monitor) => monitors.push(monitor),
            Err(error) => return (monitors, error.to_string()),
        }
    }
}

#[test]
fn peers_over_the_monitor_limit_are_refused() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::of_group(None);
    let (mut monitors, refused) = flood(&daemon);
    assert_eq!(monitors.len(), MONITORS);
    assert_eq!(
        refused,
        format!(
            "the daemon at {} refuses: too many monitors: there are {MONITORS}, end some",
            daemon.socket().display()
        )
    );
    // A client that is not a monitor is still served.
    assert!(matches!(
        ask(&daemon.socket(), &Request::Status),
        Ok(Reply::Status(_))
    ));
    // All of them are served, and one that goes makes room.
    daemon.publish(decided(7));
    for monitor in &mut monitors {
        assert!(
            matches!(monitor.recv(), Ok(MonitorItem::DecisionEvent(decided, _)) if decided.pid == Some(7))
        );
    }
    monitors.pop();
    while daemon.monitors() == MONITORS {
        std::thread::yield_now();
    }
    let mut again = Monitor::open(&daemon.socket(), Filter::default());
    while again.is_err() {
        std::thread::yield_now();
        again = Monitor::open(&daemon.socket(), Filter::default());
    }
}

#[test]
fn peers_of_group_cannot_lock_out_root() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::of_group(Some(GROUP));
    let (monitors, refused) = run_as(GROUP, &[], || flood(&daemon));
    assert_eq!(monitors.len(), CLIENTS - 32);
    assert!(
        refused.contains("too many clients: there are 224"),
        "{refused}"
    );
    assert!(matches!(
        ask(&daemon.socket(), &Request::Status),
        Ok(Reply::Status(_))
    ));
}
