//! The socket's file: its mode, its owner, its lock and its removal.

use crate::daemon::{Daemon, directory, is_root};
use portguard::control::{ControlError, Request, Server, ask};
use rustix::fs::FlockOperation;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn refusal(path: &Path) -> String {
    let error: ControlError = Server::bind(path, None).map(|_| ()).unwrap_err();
    error.to_string()
}

#[test]
fn listener_sets_mode_and_group_and_removes_its_files() {
    let directory = directory();
    let path = directory.path().join("run/socket");
    std::fs::create_dir(directory.path().join("run")).unwrap();
    let group = if is_root() {
        12
    } else {
        rustix::process::getegid().as_raw()
    };
    let server = Server::bind(&path, Some(group)).unwrap();
    let metadata = path.symlink_metadata().unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o660);
    assert_eq!(metadata.gid(), group);
    let parent = path.parent().unwrap();
    drop(server);
    assert_eq!(parent.read_dir().unwrap().count(), 0);
}

#[test]
fn listener_replaces_stale_socket() {
    let directory = directory();
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Server::bind(&path, None).unwrap());
    assert!(!path.exists());
}

#[test]
fn listener_refuses_place_of_others() {
    let directory = directory();
    let run = directory.path().join("run");
    let path = run.join("socket");
    std::fs::create_dir(&run).unwrap();
    let ends = |path: &Path, why: &str| {
        format!(
            "{} {why}, so that other users could replace the socket: correct that, or give another path with --socket",
            path.display()
        )
    };
    let set_mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&run, mode).unwrap();
    };
    set_mode(0o777);
    assert_eq!(refusal(&path), ends(&run, "has mode 0777"));
    // As /tmp: what is root's stays.
    set_mode(0o1777);
    drop(Server::bind(&path, None).unwrap());
    if is_root() {
        let lock = run.join("socket.lock");
        std::fs::write(&lock, "").unwrap();
        std::os::unix::fs::chown(&lock, Some(65534), None).unwrap();
        assert_eq!(refusal(&path), ends(&lock, "belongs to uid 65534"));
        std::os::unix::fs::chown(&run, Some(65534), None).unwrap();
        assert_eq!(refusal(&path), ends(&run, "belongs to uid 65534"));
    }
}

#[test]
fn listener_names_running_daemon() {
    let daemon = Daemon::start();
    let path = daemon.socket();
    let refusal = refusal(&path);
    let pid = std::process::id();
    assert!(
        refusal.starts_with(&format!("process {pid} (")),
        "{refusal}"
    );
    let rest = format!(
        ") already listens on {}: stop it, or give another socket with --socket",
        path.display()
    );
    assert!(refusal.ends_with(&rest), "{refusal}");
    // It still answers.
    ask(&path, &Request::Status).unwrap();
}

#[test]
fn listener_leaves_foreign_listener() {
    let directory = directory();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let refusal = refusal(&path);
    assert!(refusal.contains("already listens on"), "{refusal}");
    assert!(path.exists());
    drop(listener);
}

#[test]
fn listener_leaves_other_files() {
    let directory = directory();
    let path = directory.path().join("socket");
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(
        refusal(&path),
        format!(
            "{} is not a socket: remove it, or give another path with --socket",
            path.display()
        )
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn listener_reports_locked_path() {
    let directory = directory();
    let path = directory.path().join("socket");
    let lock = std::fs::File::create(directory.path().join("socket.lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    assert_eq!(
        refusal(&path),
        format!(
            "another daemon at {} is starting or ending: try again in a moment",
            path.display()
        )
    );
    drop(lock);
    drop(Server::bind(&path, None).unwrap());
}

#[test]
fn listener_leaves_newer_socket() {
    let mut daemon = Daemon::start();
    let path = daemon.socket();
    std::fs::remove_file(&path).unwrap();
    let _newer = UnixListener::bind(&path).unwrap();
    daemon.end();
    assert!(path.exists());
}

#[test]
fn listener_rejects_long_path() {
    let path = Path::new("/tmp").join("x".repeat(108));
    let long = format!(
        "a socket path has at most 107 bytes, {} has 113: give a shorter one with --socket",
        path.display()
    );
    assert_eq!(refusal(&path), long);
    let asked = ask(&path, &Request::Status).unwrap_err();
    assert_eq!(asked.to_string(), long);
}

#[test]
fn listener_makes_no_directory_of_a_given_path() {
    let directory = directory();
    let path = directory.path().join("mistyped/socket");
    let expected = format!(
        "the directory of {} does not exist: create it, or give another path with --socket",
        path.display()
    );
    assert_eq!(refusal(&path), expected);
    assert!(!directory.path().join("mistyped").exists());
}

#[test]
fn listener_admits_one_of_many() {
    let directory = directory();
    let path = directory.path().join("socket");
    let started: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Server::bind(&path, None).ok()))
            .collect();
        threads
            .into_iter()
            .filter_map(|t| t.join().unwrap())
            .collect()
    });
    assert_eq!(started.len(), 1);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
}
