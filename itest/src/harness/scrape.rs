//! What the daemon serves for Prometheus, fetched by HTTP and read by a parser of its format.

use anyhow::{Context as _, bail, ensure};
use prometheus_parse::{Scrape, Value};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long an emulated machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sample: its name, labels that it must have, and its value.
pub(crate) type Sample<'a> = (&'a str, &'a [(&'a str, &'a str)], u32);

/// One answer.
pub(crate) struct Scraped(Scrape);

/// An address that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

impl Scraped {
    /// Fetches `/metrics`.
    pub(crate) fn from(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).context("connecting to the metrics")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .with_context(|| answer.clone())?;
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

    /// Sees to it that samples have these values.
    pub(crate) fn says(&self, wanted: &[Sample<'_>]) -> anyhow::Result<()> {
        for &(name, labels, wanted) in wanted {
            let value = self.value(name, labels)?;
            // Whole numbers, far below those that a float cannot hold.
            ensure!(
                value.to_bits() == f64::from(wanted).to_bits(),
                "{name} {labels:?} is {value}, not {wanted}"
            );
        }
        Ok(())
    }
}
