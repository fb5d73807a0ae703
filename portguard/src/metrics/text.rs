//! Prometheus's text format, version 0.0.4, and OpenMetrics, version 1.0.0.

use super::families::families;
use super::family::{Family, Kind, Value};
use super::process_families::PROCESS;
use super::rules::MetricsRules;
use crate::status::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// A format of scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// That of Prometheus, which every scraper reads.
    Prometheus,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

impl Exposition {
    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The text of a scrape. docs/metrics.md says what is in it.
#[must_use]
pub fn render(status: &Status, rules: MetricsRules, exposition: Exposition) -> String {
    encoded(families(status, rules), exposition)
}

/// The text for the textfile directory of node_exporter, whose own process is that of `process_*` there.
#[must_use]
pub fn render_textfile(status: &Status, rules: MetricsRules) -> String {
    let mut families = families(status, rules);
    families.retain(|family| !family.name.starts_with(PROCESS));
    encoded(families, Exposition::Prometheus)
}

fn encoded(families: Vec<Family>, exposition: Exposition) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(families)));
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = match exposition {
        Exposition::Prometheus => prometheus_text::encode(&mut out, &registry),
        Exposition::OpenMetrics => text::encode(&mut out, &registry),
    };
    out
}

/// Values as they were at one moment, not counted here.
#[derive(Debug)]
struct Snapshot(Vec<Family>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            encode(family, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
    for sample in &family.samples {
        let labels = sample.labels.as_slice();
        let mut metric = metric.encode_family(&labels)?;
        match (family.kind, sample.value) {
            (Kind::Counter, Value::Whole(value)) => {
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
            (Kind::Counter, Value::Seconds(value)) => {
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
            (Kind::Gauge, Value::Whole(value)) => metric.encode_gauge(&value)?,
            (Kind::Gauge, Value::Seconds(value)) => metric.encode_gauge(&value)?,
        }
    }
    Ok(())
}
