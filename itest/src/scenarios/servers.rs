//! Real servers: nginx on a granted port as an ordinary user, ncat refused.

use crate::harness::lines::DEADLINE;
use crate::harness::{Needs, SharedInstance, SharedTable, TestEnv};
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

pub(super) const TESTS: SharedTable = &[("servers_nginx_and_ncat", Needs::Native, nginx_and_ncat)];

const WWW_DATA: u32 = 33;
const NOBODY: u32 = 65534;
const PAGE: &str = "portguard was here";

/// A server, ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // After SIGTERM nginx ends its workers. It may have ended already.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn nginx_and_ncat(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let port = (80..100)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .context("no free port from 80 on")?;
    let policy = format!(
        "{{ version: 1, rules: [
            {{ name: web, action: allow, ports: [{port}], users: [{WWW_DATA}] }},
            {{ name: nobody-else, action: deny, ports: [{port}] }}] }}"
    );
    let instance = shared.enforce(env, &policy)?;
    let directory = tempfile::tempdir()?;
    chown(directory.path(), Some(WWW_DATA), Some(WWW_DATA))?;
    let _nginx = nginx(directory.path(), port)?;
    let page = get(port)?;
    ensure!(
        page.starts_with("HTTP/1.1 200") && page.ends_with(PAGE),
        "nginx answers {page:?}"
    );

    let ncat = Command::new("/usr/bin/ncat")
        .args(["-l", "127.0.0.2", &port.to_string()])
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .output()
        .context("/usr/bin/ncat")?;
    let stderr = String::from_utf8_lossy(&ncat.stderr);
    ensure!(
        !ncat.status.success() && stderr.contains("Permission denied"),
        "ncat: {}, {stderr}",
        ncat.status
    );

    let events = instance.events()?;
    let has = |expected: Value| {
        let expected = expected.as_object().into_iter().flatten();
        let expected: Vec<_> = expected.collect();
        events.iter().any(|event| {
            expected
                .iter()
                .all(|(field, value)| event[field] == **value)
        })
    };
    ensure!(
        has(
            json!({ "uid": WWW_DATA, "verdict": "allow", "rule": "web", "comm": "nginx",
                    "port": port, "enforced": true, "granted": true, "errno": null })
        ),
        "no event of nginx: {events:?}"
    );
    ensure!(
        has(
            json!({ "uid": NOBODY, "verdict": "deny", "rule": "nobody-else", "comm": "ncat",
                    "port": port, "enforced": true, "granted": false, "errno": "EACCES" })
        ),
        "no event of ncat: {events:?}"
    );
    Ok(())
}

/// Starts nginx as www-data, without capabilities.
fn nginx(directory: &std::path::Path, port: u16) -> anyhow::Result<Server> {
    let at = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}/{name};"))
        .concat();
    let configuration = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log; events {{}}
         http {{ access_log off; {temporary}
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{PAGE}'; }} }} }}"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let child = Command::new("/usr/sbin/nginx")
        .args(["-e", "stderr", "-p"])
        .arg(directory)
        .arg("-c")
        .arg(&file)
        .uid(WWW_DATA)
        .gid(WWW_DATA)
        .stdin(Stdio::null())
        .spawn()
        .context("/usr/sbin/nginx")?;
    let mut server = Server(child);
    let until = Instant::now() + DEADLINE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = server.0.try_wait()? {
            let log = std::fs::read_to_string(directory.join("error.log")).unwrap_or_default();
            bail!("nginx ended with {status}: {log}");
        }
        ensure!(Instant::now() < until, "nginx does not listen");
        std::thread::yield_now();
    }
    Ok(server)
}

/// Fetches the page and closes the connection before nginx does: the side that closes first keeps the port busy for
/// a minute, and the next run needs it free.
fn get(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut page = String::new();
    let mut buffer = [0; 1024];
    while !page.ends_with(PAGE) {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "nginx hangs up after {page:?}");
        page += &String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    }
    Ok(page)
}
