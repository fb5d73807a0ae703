//! `portguard monitor`: shows decisions of the running daemon.

use super::{Daemon, top};
use crate::control::{Dropped, Filter, Monitor, MonitorItem};
use crate::events::sinks::Format;
use crate::exit::Exit;
use crate::output::Output;
use crate::stderr::log_line;
use anyhow::Context as _;
use clap::ValueEnum;
use portguard_common::Verdict;
use std::io::{BufWriter, Write as _};

#[derive(clap::Args)]
#[command(
    after_long_help = "A decision is shown if it passes every filter; a repeated filter passes if any of its \
    values match. The daemon never waits for a slow reader; it drops decisions and reports how many.\n\n\
    Exit codes:\n  \
    3  the daemon cannot be reached, or has exited\n\n\
    Examples:\n  \
    portguard monitor --top\n  \
    portguard monitor --verdict deny --port 1-1023\n  \
    portguard monitor --unit nginx --output json | jq .exe"
)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// Only these verdicts
    #[arg(long, value_name = "VERDICT")]
    verdict: Vec<VerdictArg>,
    /// Only binds by these users, by name or real uid
    #[arg(long, value_name = "USER", value_parser = user)]
    user: Vec<u32>,
    /// Only these ports: `80`, `8000-8010`
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    port: Vec<(u16, u16)>,
    /// Only decisions by these rules; '' means the default
    #[arg(long, value_name = "NAME")]
    rule: Vec<String>,
    /// Only binds from these systemd units; `.service` may be omitted
    #[arg(long, value_name = "UNIT", value_parser = unit)]
    unit: Vec<String>,
    /// Output format of decisions: a table on a terminal, JSON lines elsewhere
    #[arg(long, default_value = "auto", conflicts_with = "top")]
    output: Output,
    /// Show a live table: binds, refused binds, and hits per rule
    #[arg(long)]
    top: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum VerdictArg {
    /// The bind is allowed
    Allow,
    /// The bind is denied
    Deny,
    /// The kernel's default check decides
    Kernel,
}

impl From<VerdictArg> for Verdict {
    fn from(arg: VerdictArg) -> Self {
        match arg {
            VerdictArg::Allow => Self::Allow,
            VerdictArg::Deny => Self::Deny,
            VerdictArg::Kernel => Self::Kernel,
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let format = args.output.format();
    let path = args.daemon.socket;
    let filter = Filter {
        verdicts: args.verdict.into_iter().map(Into::into).collect(),
        uids: args.user,
        ports: args.port,
        rules: args.rule,
        units: args.unit,
    };
    if args.top {
        return top::run(&path, &filter);
    }
    match Monitor::open(&path, filter) {
        Ok(monitor) => {
            log_line!("portguard: monitoring {}", path.display());
            print(monitor, format)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints until the daemon ends.
fn print(mut monitor: Monitor, format: Format) -> anyhow::Result<Exit> {
    let written = || "writing to standard output";
    let mut out = BufWriter::new(std::io::stdout().lock());
    out.write_all(format.heading().as_bytes())
        .with_context(written)?;
    loop {
        if !monitor.has_more() {
            out.flush().with_context(written)?;
        }
        let line = match monitor.recv() {
            Ok(MonitorItem::DecisionEvent(decided, line)) => match format {
                // As it came: a newer daemon's fields are kept.
                Format::Json => line + "\n",
                Format::Text(_) => format.line(&decided),
            },
            Ok(MonitorItem::Dropped(dropped)) => match format {
                Format::Json => serde_json::to_string(&Dropped { dropped })? + "\n",
                Format::Text(_) => {
                    log_line!("portguard: {dropped} decisions dropped: this reader is too slow");
                    continue;
                }
            },
            Err(error) => {
                out.flush().with_context(written)?;
                return Err(error.into());
            }
        };
        out.write_all(line.as_bytes()).with_context(written)?;
    }
}

fn user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match uzers::get_user_by_name(text) {
        Some(user) => Ok(user.uid()),
        None => Err("no such user; numeric ids are accepted".into()),
    }
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        (Ok(_), Ok(_)) => Err("invalid range: the first port is above the last".into()),
        _ => Err("expected a port such as 80 or a range such as 8000-8010".into()),
    }
}

fn unit(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(super::caller::unit(text))
}
