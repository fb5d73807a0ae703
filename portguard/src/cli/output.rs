//! How decisions are written to standard output.

use crate::events::sinks::Format;
use clap::ValueEnum;
use std::io::IsTerminal as _;

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Output {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// One table row per decision
    Text,
    /// One JSON object per line
    Json,
}

impl Output {
    pub(super) fn format(self) -> Format {
        let stdout = std::io::stdout();
        let color = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        match self {
            Self::Json => Format::Json,
            Self::Auto if !stdout.is_terminal() => Format::Json,
            Self::Auto | Self::Text => Format::Text { color },
        }
    }
}
