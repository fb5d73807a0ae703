//! Of which rules a scrape tells.

use clap::ValueEnum;

/// `--metrics-rules`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MetricsRules {
    /// Every rule: a series for each
    #[default]
    All,
    /// The rules that have decided something
    Used,
    /// No rule
    None,
}
