//! Prometheus's text format, version 0.0.4.

use super::families::{Family, Kind, families};
use crate::status::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// The text of a scrape. docs/metrics.md says what is in it.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(families(status))));
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
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
        match family.kind {
            Kind::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&sample.value, None)?,
            Kind::Gauge => metric.encode_gauge(&sample.value)?,
        }
    }
    Ok(())
}
