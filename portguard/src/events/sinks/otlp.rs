//! OTLP logs over HTTP, as JSON: one log record per event, many per request where many wait.

use super::text;
use super::worker::{WriteResult, Writer};
use crate::events::{DecisionEvent, SharedEvent};
use jiff::Timestamp;
use portguard_common::Verdict;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use ureq::Agent;

/// Records in one request, at most.
const BATCH: usize = 256;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a response that are read.
const MAX_RESPONSE: u64 = 64 << 10;

/// The client of a collector.
pub(super) struct Otlp {
    agent: Agent,
    url: String,
    records: Vec<Value>,
    /// Decisions in them.
    count: u64,
}

impl Otlp {
    pub(super) fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            // A restart of the collector must not fail the next request.
            .max_idle_connections(0)
            .max_redirects(0)
            // Requests go to the URL after `otlp:`, whatever proxy the environment names.
            .proxy(None);
        Self {
            agent: config.build().into(),
            url: url.into(),
            records: Vec::new(),
            count: 0,
        }
    }

    /// Sends the records. Returns how many the collector refused, and why.
    fn post(&self, records: Vec<Value>) -> io::Result<(u64, String)> {
        let request = self
            .agent
            .post(&self.url)
            .content_type("application/json")
            .send(envelope(records).to_string());
        let mut answer = request.map_err(io::Error::other)?;
        // The client takes a redirection for success, but no collector has the records.
        if !answer.status().is_success() {
            let words = format!("http status: {}", answer.status().as_u16());
            return Err(io::Error::other(words));
        }
        let body = answer.body_mut().with_config().limit(MAX_RESPONSE);
        // An empty response refuses nothing.
        let answer: Value = body
            .read_to_string()
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let partial = &answer["partialSuccess"];
        let refused = &partial["rejectedLogRecords"];
        // 64-bit numbers are strings in this JSON.
        let refused = refused
            .as_u64()
            .or_else(|| refused.as_str()?.parse().ok())
            .unwrap_or(0);
        let why = partial["errorMessage"].as_str().unwrap_or("no reason");
        Ok((refused, why.to_owned()))
    }
}

impl Writer for Otlp {
    fn write(&mut self, event: &SharedEvent) -> WriteResult {
        let decided = event.event();
        self.records.push(record(decided));
        self.count += decided.count;
        if self.records.len() < BATCH {
            return WriteResult::default();
        }
        self.flush()
    }

    fn flush(&mut self) -> WriteResult {
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return WriteResult::default();
        }
        let count = std::mem::take(&mut self.count);
        let (dropped, error) = match self.post(records) {
            Ok((0, _)) => (0, None),
            Ok((refused, why)) => {
                let words = format!("the collector refused {refused} records: {why}");
                (refused.min(count), Some(io::Error::other(words)))
            }
            Err(error) => (count, Some(error)),
        };
        WriteResult {
            written: count - dropped,
            dropped,
            error,
        }
    }
}

/// An `ExportLogsServiceRequest`.
fn envelope(records: Vec<Value>) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        attribute("service.name", &json!("portguard")),
        attribute("service.version", &json!(version)),
    ];
    json!({"resourceLogs": [{
        "resource": {"attributes": resource},
        "scopeLogs": [{
            "scope": {"name": "portguard", "version": version},
            "logRecords": records,
        }],
    }]})
}

/// A `LogRecord`.
fn record(decided: &DecisionEvent) -> Value {
    let time: Option<Timestamp> = decided.time.parse().ok();
    let time = time.map_or(0, |time| time.as_nanosecond());
    // WARN and INFO of its severities.
    let (number, severity) = match decided.verdict {
        Verdict::Deny => (13, "WARN"),
        Verdict::Allow | Verdict::Kernel => (9, "INFO"),
    };
    // Strings and numbers always serialise, into an object.
    let fields = serde_json::to_value(decided).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    let attributes: Vec<Value> = fields
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| attribute(&format!("portguard.{name}"), value))
        .collect();
    json!({
        "timeUnixNano": time.to_string(),
        "observedTimeUnixNano": time.to_string(),
        "severityNumber": number,
        "severityText": severity,
        "eventName": "portguard.decision",
        "body": {"stringValue": text::sentence(decided)},
        "attributes": attributes,
    })
}

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::Bool(_) => json!({ "boolValue": value }),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(_) => json!({ "stringValue": value }),
        other => json!({"stringValue": other.to_string()}),
    };
    json!({"key": key, "value": value})
}
