//! How decisions are written to standard output.

use crate::events::sinks::{Format, Layout};
use clap::ValueEnum;
use std::io::IsTerminal as _;

/// The format of decisions.
#[derive(Clone, Copy, ValueEnum)]
pub enum Output {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// One table row per decision
    Text,
    /// One JSON object per line
    Json,
}

impl Output {
    /// The format, with the colors and width of the terminal.
    #[must_use]
    pub fn format(self) -> Format {
        let stdout = std::io::stdout();
        let color = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        match self {
            Self::Json => Format::Json,
            Self::Auto if !stdout.is_terminal() => Format::Json,
            Self::Auto | Self::Text => Format::Text(Layout {
                color,
                columns: columns(),
            }),
        }
    }
}

/// The columns of the terminal on standard output; `None` where it is none, or has no size as a serial line may.
#[must_use]
pub fn columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}
