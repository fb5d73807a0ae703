//! Scrapes over a Unix socket.

use crate::scrape::{Loop, answer};
use portguard::metrics::{Listener, MetricsAddress, MetricsError, MetricsRules, listen, serve};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use tokio::sync::mpsc;

fn listen_at(path: &Path, group: Option<u32>) -> Result<Listener, MetricsError> {
    let address: MetricsAddress = format!("unix:{}", path.display()).parse().unwrap();
    listen(&address, group)
}

fn refusal(path: &Path) -> String {
    listen_at(path, None).err().unwrap().to_string()
}

#[tokio::test]
async fn metrics_unix_socket_answers_curl_and_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let group = rustix::process::getegid().as_raw();
    let listener = listen_at(&path, Some(group)).unwrap();
    let metadata = path.symlink_metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o660, group));
    let (sender, requests) = mpsc::channel(1);
    let server = tokio::spawn(serve(listener, sender, MetricsRules::All));
    tokio::spawn(answer(requests, Loop::Answers));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "30", "--unix-socket"]);
    curl.arg(&path).arg("http://portguard/metrics");
    let output = tokio::task::spawn_blocking(move || curl.output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nportguard_enforcing 1\n"), "{text}");
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn metrics_unix_socket_names_what_is_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let shown = path.display();
    std::fs::write(&path, "kept").unwrap();
    let no_socket = format!(
        "--metrics unix:{shown}: {shown} is not a socket: remove it, or give another path with \
         --metrics unix:PATH"
    );
    assert_eq!(refusal(&path), no_socket);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    // Nor is a link followed, to a socket or to nothing.
    std::fs::remove_file(&path).unwrap();
    let target = directory.path().join("target");
    symlink(&target, &path).unwrap();
    assert_eq!(refusal(&path), no_socket);
    let _socket = std::os::unix::net::UnixListener::bind(&target).unwrap();
    let mode = target.symlink_metadata().unwrap().mode();
    assert_eq!(refusal(&path), no_socket);
    assert_eq!(target.symlink_metadata().unwrap().mode(), mode);
}

#[tokio::test]
async fn metrics_unix_socket_names_its_listener_and_a_missing_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let _listener = listen_at(&path, None).unwrap();
    let taken = refusal(&path);
    let rest = format!(
        ") already listens on {}: stop it, or give another socket with --metrics unix:PATH",
        path.display()
    );
    assert!(taken.ends_with(&rest), "{taken}");
    let missing = directory.path().join("missing/metrics.sock");
    let shown = missing.display();
    assert_eq!(
        refusal(&missing),
        format!(
            "--metrics unix:{shown}: the directory of {shown} does not exist: create it, or give another \
             path with --metrics unix:PATH"
        )
    );
    let long = directory.path().join("x".repeat(120));
    let long = refusal(&long);
    assert!(
        long.ends_with("give a shorter one with --metrics unix:PATH"),
        "{long}"
    );
}

#[test]
fn run_names_what_metrics_takes() {
    let error = |address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portguard"));
        let output = command
            .args(["run", "--metrics", address])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let tcp = error("localhost:9464");
    let expected =
        "give ADDR:PORT with a numeric address, such as 127.0.0.1:9464 or [::1]:9464, or unix:PATH";
    assert!(tcp.contains(expected), "{tcp}");
    let unix = error("unix:metrics.sock");
    let expected = "unix: needs an absolute path, such as unix:/run/portguard/metrics.sock";
    assert!(unix.contains(expected), "{unix}");
}
