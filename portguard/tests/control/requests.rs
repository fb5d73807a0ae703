//! Requests that the server accepts, and its errors for the others.

use crate::daemon::{Daemon, status};
use portguard::control::{CLIENT_TIMEOUT, ControlError, Filter, Monitor, Reply, Request, ask};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

/// Sends bytes as they are, and reads all that comes.
fn send(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.write_all(bytes).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

fn failed(error: &str) -> String {
    format!("{{\"reply\":\"failed\",\"error\":\"{error}\"}}\n")
}

#[test]
fn requests_are_answered_by_the_daemon() {
    let daemon = Daemon::start();
    let reply = ask(&daemon.socket(), &Request::Status).unwrap();
    assert_eq!(reply, Reply::Status(Box::new(status())));
    let reply = ask(&daemon.socket(), &Request::Reload).unwrap();
    assert!(matches!(reply, Reply::Reloaded { policy, .. } if policy == "b7b9142ff996"));
}

#[test]
fn requests_reject_garbage() {
    let daemon = Daemon::start();
    assert_eq!(
        send(&daemon, b"GET / HTTP/1.1\n"),
        failed("not a request: expected value at line 1 column 1")
    );
    let unknown = send(&daemon, b"{\"request\":\"fly\"}\n");
    assert!(
        unknown.contains("not a request: unknown variant `fly`"),
        "{unknown}"
    );
    let unknown = send(
        &daemon,
        b"{\"request\":\"monitor\",\"filter\":{\"prots\":[]}}\n",
    );
    assert!(unknown.contains("unknown field `prots`"), "{unknown}");
    let unknown = send(
        &daemon,
        b"{\"request\":\"monitor\",\"filter\":{\"verdicts\":[\"maybe\"]}}\n",
    );
    assert!(
        unknown.contains("unknown verdict `maybe`: expected allow, deny or kernel"),
        "{unknown}"
    );
    assert!(send(&daemon, b"\xff\n").contains("not a request: "));
    ask(&daemon.socket(), &Request::Status).unwrap();
}

#[test]
fn requests_reject_long_line() {
    let daemon = Daemon::start();
    let long = vec![b' '; 16 * 1024 + 1];
    assert_eq!(
        send(&daemon, &long),
        failed("the request is longer than 16384 bytes")
    );
}

#[test]
fn requests_reject_long_filter() {
    let daemon = Daemon::start();
    let filter = Filter {
        uids: (0..257).collect(),
        ..Filter::default()
    };
    let error = Monitor::open(&daemon.socket(), filter)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the daemon at {} refuses: a filter has 256 entries at most, this one has 257",
            daemon.socket().display()
        )
    );
}

#[test]
fn requests_time_out() {
    let daemon = Daemon::start();
    let mut silent = UnixStream::connect(daemon.socket()).unwrap();
    silent.write_all(b"{\"request\":").unwrap();
    ask(&daemon.socket(), &Request::Status).unwrap();
    let mut reply = String::new();
    silent.read_to_string(&mut reply).unwrap();
    let seconds = CLIENT_TIMEOUT.as_secs();
    assert_eq!(reply, failed(&format!("no request within {seconds} s")));
}

#[test]
fn requests_ignore_closed_client() {
    let daemon = Daemon::start();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "");
}

#[test]
fn requests_report_ending_daemon() {
    let daemon = Daemon::answering(Some(rustix::process::getegid().as_raw()), |_| None);
    let reply = ask(&daemon.socket(), &Request::Reload).unwrap();
    let error = "the daemon is ending".into();
    assert_eq!(reply, Reply::Failed { error });
}

/// The client's error where a listener sends this and closes.
fn error_of_reply(bytes: &'static [u8]) -> String {
    let directory = crate::daemon::directory();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(&stream)
            .read_line(&mut String::new())
            .unwrap();
        stream.write_all(bytes).unwrap();
    });
    let error = ask(&path, &Request::Status).unwrap_err().to_string();
    thread.join().unwrap();
    error.replace(&path.display().to_string(), "SOCKET")
}

#[test]
fn requests_report_broken_replies() {
    assert_eq!(error_of_reply(b""), "the daemon at SOCKET has ended");
    assert_eq!(
        error_of_reply(b"{\"reply\":\"sta"),
        "the daemon at SOCKET has ended"
    );
    assert_eq!(
        error_of_reply(b"SSH-2.0\n"),
        "the process at SOCKET is not portguard, or is another version: \
         expected value at line 1 column 1"
    );
}

#[test]
fn monitor_rejects_reply_to_another_request() {
    let directory = crate::daemon::directory();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(&stream)
            .read_line(&mut String::new())
            .unwrap();
        stream.write_all(b"{\"reply\":\"detached\"}\n").unwrap();
    });
    let monitor = Monitor::open(&path, Filter::default());
    let error = monitor.map(|_| ()).unwrap_err().to_string();
    thread.join().unwrap();
    assert_eq!(
        error,
        format!(
            "the process at {} is not portguard, or is another version: a reply to another request",
            path.display()
        )
    );
}

#[test]
fn requests_report_daemon_that_does_not_answer() {
    let error = ControlError::Silent {
        path: "/run/socket".into(),
        waited: std::time::Duration::from_secs(30),
    };
    assert_eq!(
        error.to_string(),
        "the daemon at /run/socket has not answered for 30 s: check whether it is stopped"
    );
}
