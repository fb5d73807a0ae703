//! The recorded figures in docs/baseline, and how a measurement compares with them.

use crate::repo;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// By how many percent a figure may exceed the recorded one.
const TOLERANCE: u64 = 3;

/// What a verb does with its figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Prints them.
    #[default]
    Print,
    /// Compares them with the recorded ones.
    Compare,
    /// Records them.
    Record,
}

/// Recorded figures of each kernel series.
pub(crate) type Baseline<Figures> = BTreeMap<String, Recorded<Figures>>;

/// The recorded figures of a kernel.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Recorded<Figures> {
    /// The package of the kernel.
    pub(crate) kernel: String,
    /// The figures themselves.
    pub(crate) figures: Figures,
}

/// The instructions that the verifier checked of each program.
pub(crate) type Verified = BTreeMap<String, u64>;

/// The rows of the bench.
pub(crate) type Bench = Vec<Row>;

/// A row of the bench.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// What a bind costs.
    pub(crate) instructions: u64,
    /// What a bind costs without portguard. A row without it does not measure portguard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bare: Option<u64>,
    /// What the row should not exceed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) target: String,
}

/// Figures that have a file in docs/baseline.
pub(crate) trait Figures: DeserializeOwned + Serialize {
    /// The name of the file, and of the verb that records it.
    const NAME: &str;
}

impl Figures for Verified {
    const NAME: &str = "verify";
}

impl Figures for Bench {
    const NAME: &str = "bench";
}

fn file<F: Figures>() -> String {
    format!("docs/baseline/{}.json", F::NAME)
}

/// Reads the recorded figures.
pub(crate) fn load<F: Figures>() -> Result<Baseline<F>> {
    let file = file::<F>();
    let record = || {
        format!(
            "reading {file}; `cargo xtask {} --record` writes it",
            F::NAME
        )
    };
    let text = fs::read_to_string(repo::path(&file)).with_context(record)?;
    serde_json::from_str(&text).with_context(record)
}

/// Records the figures of some kernels; those of others stay.
pub(crate) fn record<F: Figures>(new: Baseline<F>) -> Result<()> {
    let path = repo::path(&file::<F>());
    let mut all: Baseline<F> = if path.is_file() {
        load()?
    } else {
        Baseline::new()
    };
    all.extend(new);
    let text = serde_json::to_string_pretty(&all)? + "\n";
    fs::create_dir_all(repo::path("docs/baseline")).context("creating docs/baseline")?;
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("xtask: recorded in {}", file::<F>());
    Ok(())
}

/// A change in percent, `+1.2 %`.
pub(crate) fn change(recorded: u64, measured: u64) -> String {
    if recorded == 0 {
        return "-".to_owned();
    }
    let (recorded, measured) = (recorded as f64, measured as f64);
    format!("{:+.1} %", (measured - recorded) * 100.0 / recorded)
}

/// Why a figure is too much worse than the recorded one, if it is.
pub(crate) fn regression(recorded: u64, measured: u64) -> Option<String> {
    (measured * 100 > recorded * (100 + TOLERANCE)).then(|| {
        format!(
            "{measured} instructions, recorded {recorded}: {}, more than {TOLERANCE} % worse",
            change(recorded, measured)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_begins_above_the_tolerance() {
        assert_eq!(regression(1000, 1030), None);
        assert_eq!(regression(1000, 500), None);
        assert_eq!(
            regression(1000, 1031).as_deref(),
            Some("1031 instructions, recorded 1000: +3.1 %, more than 3 % worse")
        );
    }

    #[test]
    fn change_has_a_sign() {
        assert_eq!(change(1000, 1010), "+1.0 %");
        assert_eq!(change(1000, 900), "-10.0 %");
        assert_eq!(change(0, 900), "-");
    }

    #[test]
    fn baseline_survives_json() {
        let row = Row {
            name: "bare bind".to_owned(),
            instructions: 2416,
            bare: None,
            target: String::new(),
        };
        let recorded = Recorded {
            kernel: "linux-image-6.12".to_owned(),
            figures: vec![row.clone()],
        };
        let baseline: Baseline<Bench> = BTreeMap::from([("6.12".to_owned(), recorded)]);
        let text = serde_json::to_string(&baseline).expect("JSON");
        assert!(!text.contains("bare\":") && !text.contains("target"));
        let again: Baseline<Bench> = serde_json::from_str(&text).expect("a baseline");
        assert_eq!(again["6.12"].figures, [row]);
    }
}
