//! `portguard status`: what is enforced, as reported by the daemon or, without one, by the pins.

use super::Daemon;
use super::failure::{Unavailable, unexpected_reply};
use super::span::{moment, span};
use super::table::table;
use crate::control::{ControlError, Reply, Request, ask};
use crate::counted::counted;
use crate::exit::Exit;
use crate::kernel::pinned_status;
use crate::metrics::{MetricsRules, render_textfile};
use crate::status::{Decisions, Enforcing, Hardening, RuleHits, Status};
use crate::stdout::{self, out_line};
use anstyle::{AnsiColor, Style};
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(clap::Args)]
#[command(after_long_help = "Exit codes:\n  \
    0  healthy: enforcing or auditing without a problem\n  \
    1  degraded or inactive, a problem, the last reload failed, sockets violate the policy, or only the pins enforce, \
 without a daemon\n  \
    3  unknown: the daemon cannot be reached\n\n\
    Examples:\n  \
    portguard status\n  \
    portguard status --json | jq .rules\n  \
    portguard status --prometheus > /var/lib/prometheus/node-exporter/portguard.prom")]
pub(super) struct Args {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
    /// Print the metrics for the textfile directory of Prometheus's node_exporter, also where no daemon runs
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let status = match ask(&args.daemon.socket, &Request::Status) {
        Ok(Reply::Status(status)) => *status,
        Ok(Reply::Failed { error }) => {
            let path = args.daemon.socket.clone();
            return Err(ControlError::Refused { path, error }.into());
        }
        Ok(_) => return Err(unexpected_reply()),
        Err(ControlError::NoDaemon { path }) => match pinned_status() {
            Ok(Some(mut status)) => {
                status.problems.push(NO_DAEMON.to_owned());
                status
            }
            Ok(None) => nothing(&ControlError::NoDaemon { path }),
            Err(error) => return Err(Unavailable(error.to_string()).into()),
        },
        Err(error) => return Err(error.into()),
    };
    if args.json {
        out_line!("{}", serde_json::to_string(&status)?)?;
    } else if args.prometheus {
        stdout::text(&render_textfile(&status, MetricsRules::All))?;
    } else {
        let stdout = std::io::stdout();
        let color = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        stdout::text(&text(&status, color))?;
    }
    Ok(Exit::of(is_well(&status)))
}

/// The problem where only pins enforce.
const NO_DAEMON: &str = "no daemon runs: the pins enforce on, but decisions are not reported and files not reloaded; \
    start `portguard run --pin`, or end it with `portguard detach`";

/// Where nothing is enforced.
fn nothing(error: &ControlError) -> Status {
    Status {
        enforcing: Enforcing::Inactive,
        hook: None,
        daemon: None,
        kernel: rustix::system::uname().release().to_string_lossy().into(),
        policy: None,
        rules: Vec::new(),
        decisions: Decisions::default(),
        dropped: BTreeMap::new(),
        events: None,
        programs: Vec::new(),
        reloads: None,
        pins: None,
        problems: vec![error.to_string()],
        reattached: 0,
        fallback: None,
        violations: None,
        hardening: None,
    }
}

fn is_well(status: &Status) -> bool {
    let reloaded = status.reloads.as_ref().is_none_or(|r| r.error.is_none());
    matches!(status.enforcing, Enforcing::Enforce | Enforcing::Audit)
        && status.problems.is_empty()
        && reloaded
        && status.violations.is_none_or(|violations| violations == 0)
}

/// For people: what matters most first.
fn text(status: &Status, color: bool) -> String {
    let mut lines = Lines(String::new());
    lines.add("state", &state(status, color));
    for problem in &status.problems {
        lines.add("problem", &painted(problem, AnsiColor::Red, color));
    }
    policy(&mut lines, status);
    match &status.daemon {
        Some(daemon) => lines.add(
            "daemon",
            &format!(
                "pid {}, version {}, up {}",
                daemon.pid,
                daemon.version,
                span(daemon.uptime)
            ),
        ),
        None => lines.add("daemon", "none"),
    }
    let unpinned = match status.enforcing {
        Enforcing::Inactive => "none",
        _ => "none; enforcement ends with the daemon",
    };
    lines.add("pins", status.pins.as_deref().unwrap_or(unpinned));
    lines.add("kernel", &status.kernel);
    if let Some(hardening) = &status.hardening {
        sandbox(&mut lines, hardening);
    }
    counters(&mut lines, status);
    reloads(&mut lines, status, color);
    let Lines(mut text) = lines;
    if !status.rules.is_empty() {
        text.push('\n');
        let rows: Vec<Vec<String>> = status.rules.iter().map(rule).collect();
        text.push_str(&table(&["HITS", "VERDICT", "RULE", "ORIGIN"], &rows));
    }
    text
}

fn state(status: &Status, color: bool) -> String {
    let hook = match status.hook {
        Some(hook) => format!(", hook {hook}"),
        None => String::new(),
    };
    let (state, paint) = match status.enforcing {
        Enforcing::Enforce => ("enforcing", AnsiColor::Green),
        Enforcing::Audit => ("auditing: nothing is denied or granted", AnsiColor::Yellow),
        Enforcing::Degraded => ("degraded", AnsiColor::Red),
        Enforcing::Inactive => ("not enforcing", AnsiColor::Red),
    };
    painted(state, paint, color) + &hook
}

fn policy(lines: &mut Lines, status: &Status) {
    let Some(policy) = &status.policy else {
        lines.add("policy", "none");
        return;
    };
    lines.add(
        "policy",
        &format!(
            "{}, {}, in force since {}, generation {}",
            policy.hash,
            policy.mode.as_str(),
            moment(&policy.since),
            policy.generation
        ),
    );
    lines.add(
        "",
        &format!(
            "revision {}, from {}",
            policy.revision,
            policy.origin.join(", ")
        ),
    );
    lines.add(
        "",
        &format!(
            "ports {}, default {}, scope {}",
            policy.protect,
            policy.default,
            policy.scope.as_str()
        ),
    );
}

fn sandbox(lines: &mut Lines, hardening: &Hardening) {
    if !hardening.sandbox {
        return lines.add("sandbox", "off, by --no-sandbox");
    }
    let parts = [
        (hardening.no_new_privs, "no_new_privs"),
        (hardening.seccomp, "seccomp"),
        (hardening.landlock, "landlock"),
    ];
    let parts = parts.iter().filter(|(holds, _)| *holds);
    let mut words: Vec<&str> = parts.map(|(_, word)| *word).collect();
    words.extend(hardening.capabilities.iter().map(String::as_str));
    lines.add("sandbox", &words.join(", "));
    for missing in &hardening.missing {
        lines.add("", missing);
    }
}

fn counters(lines: &mut Lines, status: &Status) {
    let made = status.decisions;
    lines.add(
        "decisions",
        &format!(
            "{}: {} allow, {} deny, {} kernel",
            made.all(),
            made.allow,
            made.deny,
            made.kernel
        ),
    );
    let dropped: u64 = status.dropped.values().sum();
    let reasons = status.dropped.iter().filter(|(_, count)| **count > 0);
    let reasons: Vec<String> = reasons
        .map(|(why, count)| format!("{count} {why}"))
        .collect();
    let reasons = reasons.join(", ");
    match dropped {
        0 => lines.add("dropped", "none"),
        _ => lines.add("dropped", &format!("{dropped}: {reasons}")),
    }
    if status.reattached > 0 {
        let times = counted(status.reattached.try_into().unwrap_or(usize::MAX), "time");
        lines.add("hooks", &format!("re-attached {times}"));
    }
    if let Some(held) = status.violations.filter(|held| *held > 0) {
        let sockets = counted(held.try_into().unwrap_or(usize::MAX), "socket");
        let text = format!("{sockets} already bound in violation of the policy");
        lines.add("violations", &text);
    }
}

fn reloads(lines: &mut Lines, status: &Status, color: bool) {
    let Some(reloads) = &status.reloads else {
        return;
    };
    let last = match &reloads.last {
        Some(last) => format!(", the last {}", moment(last)),
        None => String::new(),
    };
    let counts = format!("{} done, {} failed{last}", reloads.done, reloads.failed);
    lines.add("reloads", &counts);
    if let Some(error) = &reloads.error {
        let failed = match status.fallback {
            Some(_) => "the policy's files are broken:",
            None => "the last reload failed, keeping the previous policy:",
        };
        lines.add("", &painted(failed, AnsiColor::Red, color));
        for line in error.trim_end().lines() {
            lines.add("", line);
        }
    }
}

fn rule(rule: &RuleHits) -> Vec<String> {
    let verdict = match rule.audit {
        true => format!("{} (audit)", rule.verdict),
        false => rule.verdict.to_string(),
    };
    vec![
        rule.hits.to_string(),
        verdict,
        rule.name.clone().unwrap_or_else(|| "(default)".into()),
        rule.origin.clone().unwrap_or_default(),
    ]
}

fn painted(text: &str, paint: AnsiColor, color: bool) -> String {
    if !color {
        return text.to_owned();
    }
    let style = Style::new().bold().fg_color(Some(paint.into()));
    format!("{style}{text}{style:#}")
}

/// Lines with a word each in front.
struct Lines(String);

impl Lines {
    fn add(&mut self, word: &str, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}", format!("{word:<12} {text}").trim_end());
    }
}
