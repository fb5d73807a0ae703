//! Scrapes of the real server.

use crate::{scrape, status, value};
use portguard::control::{PendingRequest, Reply, Request};
use portguard::metrics::{Exposition, MetricsAddress, MetricsRules, listen, serve};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Prometheus's.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the daemon's loop does when asked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Loop {
    Answers,
    Hangs,
    Ends,
}

/// A server on a runtime of its own, until it is dropped.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(does: Loop) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = listen(&"127.0.0.1:0".parse().unwrap(), None).unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let (sender, requests) = mpsc::channel(1);
                tokio::spawn(serve(listener, sender, MetricsRules::All));
                tokio::spawn(answer(requests, does));
                let _ = stopped.await;
            });
        });
        Self {
            address: told.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn get(&self, request: &str) -> (String, String) {
        finish(self.connect(), request)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

pub(crate) async fn answer(mut requests: mpsc::Receiver<PendingRequest>, does: Loop) {
    if does == Loop::Ends {
        return;
    }
    let mut unanswered = Vec::new();
    while let Some(pending) = requests.recv().await {
        assert_eq!(pending.request, Request::Status);
        if does == Loop::Hangs {
            unanswered.push(pending);
            continue;
        }
        let _ = pending.reply.send(Reply::Status(Box::new(status())));
    }
}

/// Sends the request; the head and the body of the answer.
fn finish(mut stream: TcpStream, request: &str) -> (String, String) {
    let request = format!("{request} HTTP/1.1\r\nHost: portguard\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[test]
fn metrics_server_answers_scrape() {
    let server = Server::start(Loop::Answers);
    let (head, body) = server.get("GET /metrics");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    let plain = Exposition::Prometheus.content_type();
    assert!(head.contains(&format!("content-type: {plain}")), "{head}");
    let scraped = scrape(&body);
    assert_eq!(value(&scraped, "portguard_enforcing", &[]), Some(1.0));
    let (head, none) = server.get("HEAD /metrics");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    let length = format!("content-length: {}", body.len());
    assert!(head.contains(&length) && none.is_empty(), "{head}");
}

/// The head and the body of an answer that need not be text.
fn bytes(server: &Server, headers: &str) -> (String, Vec<u8>) {
    let mut stream = server.connect();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: portguard\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

#[test]
fn metrics_server_answers_in_the_form_that_is_asked_for() {
    let server = Server::start(Loop::Answers);
    let (head, body) = bytes(&server, "Accept: application/openmetrics-text\r\n");
    let open = Exposition::OpenMetrics.content_type();
    assert!(head.contains(&format!("content-type: {open}")), "{head}");
    assert!(
        body.ends_with(b"# EOF\n") && !head.contains("gzip"),
        "{head}"
    );
    let (_, plain) = server.get("GET /metrics");
    let (head, body) = bytes(&server, "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(head.contains("vary: accept, accept-encoding"), "{head}");
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&body[..]);
    decoder.read_to_string(&mut text).unwrap();
    assert!(text == plain && body.len() < plain.len(), "{text}");
}

#[test]
fn metrics_server_refuses_other_requests() {
    let server = Server::start(Loop::Answers);
    let (head, body) = server.get("GET /");
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    assert_eq!(body, "the metrics are at /metrics\n");
    let (head, body) = server.get("DELETE /metrics");
    assert!(head.starts_with("http/1.1 405 "), "{head}");
    assert!(head.contains("allow: get, head"), "{head}");
    assert_eq!(body, "only GET and HEAD\n");
    // What is too long may be cut off before it is read: only that it ends nothing matters.
    let endless = format!("GET /metrics?{} HTTP/1.1\r\n", "x".repeat(1 << 20));
    let _ = server.connect().write_all(endless.as_bytes());
    let (head, _) = server.get("GET /metrics");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

#[test]
fn metrics_server_reports_ending_daemon() {
    let server = Server::start(Loop::Ends);
    let (head, body) = server.get("GET /metrics");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "portguard is ending\n");
}

#[test]
fn metrics_server_reports_busy_daemon() {
    let server = Server::start(Loop::Hangs);
    let (head, body) = server.get("GET /metrics");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "portguard is too busy to answer: try again\n");
}

#[tokio::test]
async fn metrics_server_names_address_in_use() {
    let taken = listen(&"127.0.0.1:0".parse().unwrap(), None).unwrap();
    let address = taken.local_addr().unwrap();
    let refused = listen(&MetricsAddress::Tcp(address), None);
    assert_eq!(
        refused.err().unwrap().to_string(),
        format!(
            "--metrics {address}: cannot listen there: Address already in use (os error 98); give an \
             address of this host and a free port"
        )
    );
}

/// However many connections a user holds silent, a scrape is answered before any of them has had its time.
#[test]
fn metrics_server_answers_beside_silent_clients() {
    for count in [8, 40, 400] {
        let server = Server::start(Loop::Answers);
        let mut silent: Vec<TcpStream> = (0..count).map(|_| server.connect()).collect();
        let scraper = server.connect();
        scraper.set_read_timeout(Some(SCRAPE_TIMEOUT)).unwrap();
        let (head, _) = finish(scraper, "GET /metrics");
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        for stream in &mut silent {
            let mut nothing = Vec::new();
            // Those closed for others may be reset.
            let _ = stream.read_to_end(&mut nothing);
            assert!(nothing.is_empty());
        }
    }
}

/// Another user's connections, from however many addresses, take the places of their own, not of a scraper that has not
/// sent its request yet.
#[test]
fn metrics_server_closes_connections_of_the_user_who_has_most() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server = Server::start(Loop::Answers);
    for _ in 0..20 {
        let start = Instant::now();
        let scraper = server.connect();
        let address = server.address;
        let flood = std::thread::spawn(move || {
            let uid = Some(Uid::from_raw(54_321));
            // Of this thread alone.
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let from = |n: u8| connect_from([127, 0, 1, n].into(), address);
            (1..=200).map(from).collect::<Vec<OwnedFd>>()
        });
        let silent = flood.join().unwrap();
        // The scraper has a second, on a busy machine too.
        if start.elapsed() > Duration::from_millis(500) {
            continue;
        }
        let (head, _) = finish(scraper, "GET /metrics");
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        drop(silent);
        return;
    }
    panic!("this machine is too slow");
}

fn connect_from(from: IpAddr, to: SocketAddr) -> OwnedFd {
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let socket = rustix::net::socket(family, kind, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    socket
}

/// A header that comes a byte at a time has a second in all, however regularly the bytes come.
#[test]
fn metrics_server_closes_slow_header() {
    let server = Server::start(Loop::Answers);
    let mut slow = server.connect();
    let mut sent = 0;
    let endless = b"GET /metrics HTTP/1.1\r\nX: "
        .iter()
        .chain(std::iter::repeat(&b'x'));
    for byte in endless.take(100) {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sent < 100, "it has had five seconds");
    let mut silent = server.connect();
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).unwrap();
    assert!(nothing.is_empty());
}

/// One client has eight connections: the ninth takes the place of the oldest that has sent nothing.
#[test]
fn metrics_server_limits_connections_of_a_client() {
    let server = Server::start(Loop::Answers);
    let mut connections: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    // Answered after all of them: they were accepted in order.
    server.get("GET /metrics");
    let answered = connections.iter_mut().filter_map(|stream| {
        let request = b"GET /metrics HTTP/1.1\r\nHost: portguard\r\n\r\n";
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    });
    let answered = answered.count();
    assert!((1..=8).contains(&answered), "{answered}");
}

/// Without descriptors the server waits for some and does not spin; in a process of its own, whose limit it
/// lowers.
#[test]
fn metrics_server_waits_for_descriptors() {
    const TEST: &str = "scrape::metrics_server_waits_for_descriptors";
    const CHILD: &str = "PORTGUARD_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([TEST, "--exact", "--nocapture"]).env(CHILD, "1");
        let output = child.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(
            said,
            "portguard: metrics: cannot accept a connection: Too many open files (os error 24); will retry\n"
        );
        return;
    }
    let server = Server::start(Loop::Answers);
    let limit = getrlimit(Resource::Nofile);
    let current = Some(64);
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    // Connecting takes none once there is a socket.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let socket: OwnedFd = socket.unwrap();
    let all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    rustix::net::connect(&socket, &server.address).unwrap();
    let before = clock_gettime(ClockId::ProcessCPUTime);
    // Long enough for a spin to show; a slow machine makes it longer, and the spin with it.
    std::thread::sleep(Duration::from_secs(2));
    let after = clock_gettime(ClockId::ProcessCPUTime);
    let spent = Duration::try_from(after - before).unwrap();
    assert!(spent < Duration::from_millis(500), "{spent:?}");
    drop(all);
    let (head, _) = finish(socket.into(), "GET /metrics");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}
