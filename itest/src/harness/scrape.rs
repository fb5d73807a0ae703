//! The daemon's Prometheus metrics, fetched by HTTP and parsed.

use anyhow::{Context as _, bail, ensure};
use prometheus_parse::{Scrape, Value};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take to response: emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sample: its name, some of its labels, and its value.
pub(crate) type Sample<'a> = (&'a str, &'a [(&'a str, &'a str)], u32);

pub(crate) struct Scraped(Scrape);

/// A free address of the loopback interface.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

impl Scraped {
    /// Fetches `/metrics`.
    pub(crate) fn from(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).context("connecting to the metrics")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::over(stream)
    }

    /// Fetches `/metrics` over a Unix socket.
    pub(crate) fn from_unix(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).context("connecting to the metrics")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::over(stream)
    }

    fn over(mut stream: impl Read + Write) -> anyhow::Result<Self> {
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, body) = response
            .split_once("\r\n\r\n")
            .with_context(|| response.clone())?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        ensure!(
            head.to_ascii_lowercase()
                .contains("content-type: text/plain; version="),
            "{head}"
        );
        let lines = body.lines().map(|line| Ok(line.to_owned()));
        Ok(Self(Scrape::parse(lines)?))
    }

    /// The labels of the samples of a metric.
    pub(crate) fn labels(&self, name: &str, label: &str) -> Vec<String> {
        let samples = self.0.samples.iter().filter(|sample| sample.metric == name);
        samples
            .filter_map(|sample| sample.labels.get(label).map(str::to_owned))
            .collect()
    }

    /// The value of the sample with these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<f64> {
        let mut found = self.0.samples.iter().filter(|sample| {
            sample.metric == name
                && (labels.iter()).all(|(key, is)| sample.labels.get(key) == Some(is))
        });
        match (found.next().map(|sample| &sample.value), found.next()) {
            (Some(Value::Counter(value) | Value::Gauge(value)), None) => Ok(*value),
            (found, more) => bail!("{name} {labels:?}: {found:?} {more:?}"),
        }
    }

    /// Fails unless samples have these values.
    pub(crate) fn check(&self, expected: &[Sample<'_>]) -> anyhow::Result<()> {
        for &(name, labels, expected) in expected {
            let value = self.value(name, labels)?;
            // The values are small whole numbers, which a float holds exactly.
            ensure!(
                value.to_bits() == f64::from(expected).to_bits(),
                "{name} {labels:?} is {value}, not {expected}"
            );
        }
        Ok(())
    }
}
