//! What a client may send, and what it hears of what it may not.

use crate::daemon::{Daemon, status};
use portguard::control::{CLIENT_TIMEOUT, Filter, Monitor, Reply, Request, ask};
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
fn status_and_reload_are_answered_by_the_daemon() {
    let daemon = Daemon::start();
    let reply = ask(&daemon.socket(), &Request::Status).unwrap();
    assert_eq!(reply, Reply::Status(Box::new(status())));
    let reply = ask(&daemon.socket(), &Request::Reload).unwrap();
    assert!(matches!(reply, Reply::Reloaded { policy, .. } if policy == "b7b9142ff996"));
}

#[test]
fn garbage_is_told() {
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
fn a_request_that_is_too_long_is_refused() {
    let daemon = Daemon::start();
    let long = vec![b' '; 16 * 1024 + 1];
    assert_eq!(
        send(&daemon, &long),
        failed("the request is longer than 16384 bytes")
    );
}

#[test]
fn a_filter_with_too_many_entries_is_refused() {
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
fn one_who_says_nothing_is_sent_away_and_keeps_nobody_waiting() {
    let daemon = Daemon::start();
    let mut silent = UnixStream::connect(daemon.socket()).unwrap();
    silent.write_all(b"{\"request\":").unwrap();
    ask(&daemon.socket(), &Request::Status).unwrap();
    let mut heard = String::new();
    silent.read_to_string(&mut heard).unwrap();
    let seconds = CLIENT_TIMEOUT.as_secs();
    assert_eq!(heard, failed(&format!("no request within {seconds} s")));
}

#[test]
fn one_who_goes_without_a_word_is_not_answered() {
    let daemon = Daemon::start();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "");
}

#[test]
fn a_daemon_that_is_ending_says_so() {
    let daemon = Daemon::answering(Some(rustix::process::getegid().as_raw()), |_| None);
    let reply = ask(&daemon.socket(), &Request::Reload).unwrap();
    let error = "the daemon is ending".into();
    assert_eq!(reply, Reply::Failed { error });
}

/// What a client makes of a listener that says this and closes.
fn asked_of_one_who_says(bytes: &'static [u8]) -> String {
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
fn a_daemon_that_goes_or_is_none_is_told() {
    assert_eq!(asked_of_one_who_says(b""), "the daemon at SOCKET has ended");
    assert_eq!(
        asked_of_one_who_says(b"{\"reply\":\"sta"),
        "the daemon at SOCKET has ended"
    );
    assert_eq!(
        asked_of_one_who_says(b"SSH-2.0\n"),
        "what answers at SOCKET is no portguard, or one of another version: \
         expected value at line 1 column 1"
    );
}
