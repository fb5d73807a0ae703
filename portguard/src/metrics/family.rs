//! A metric and its samples.

use jiff::Timestamp;

/// A metric with all its label values.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the `_total` of a counter.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

/// A value: whole numbers are exact, also beyond 2^53.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Seconds(f64),
}

impl Family {
    /// A counter; `name` is without `_total`.
    pub(super) fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Self {
        let kind = Kind::Counter;
        Self {
            name,
            help,
            kind,
            samples,
        }
    }

    /// A gauge.
    pub(super) fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Self {
        let kind = Kind::Gauge;
        Self {
            name,
            help,
            kind,
            samples,
        }
    }
}

/// A sample with these labels.
pub(super) fn sample<const N: usize>(labels: [(&'static str, &str); N], value: u64) -> Sample {
    Sample {
        labels: labels.map(|(name, value)| (name, value.into())).into(),
        value: Value::Whole(value),
    }
}

/// A sample without labels, where there is a value.
pub(super) fn single(value: impl Into<Option<u64>>) -> Vec<Sample> {
    let value: Option<u64> = value.into();
    value.map(|value| sample([], value)).into_iter().collect()
}

/// A duration in thousandths or billionths of a second, as seconds.
pub(super) fn duration<const N: usize>(
    labels: [(&'static str, &str); N],
    parts: u64,
    per_second: u64,
) -> Sample {
    Sample {
        value: Value::Seconds(parts as f64 / per_second as f64),
        ..sample(labels, 0)
    }
}

/// An RFC 3339 time as seconds since the epoch.
pub(super) fn moment(time: &str) -> Vec<Sample> {
    let seconds = time.parse().ok().map(Timestamp::as_second);
    single(seconds.and_then(|seconds| u64::try_from(seconds).ok()))
}
