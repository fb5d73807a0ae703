//! A decision as a table line for a terminal, and as a sentence for logs.

use crate::events::DecisionEvent;
use anstyle::{AnsiColor, Color, Style};
use portguard_common::{Reason, Verdict};
use unicode_width::UnicodeWidthStr;

const WIDTHS: [usize; 6] = [13, 12, 30, 22, 24, 28];

/// The table's heading.
pub(super) fn heading(color: bool) -> String {
    let style = if color {
        Style::new().bold()
    } else {
        Style::new()
    };
    let cells = ["TIME", "VERDICT", "WHAT", "WHO", "PROCESS", "CGROUP"].map(String::from);
    format!("{style}{}WHY{style:#}\n", row(&cells))
}

/// The line, its newline included.
pub(super) fn line(decided: &DecisionEvent, color: bool) -> String {
    let style = if color {
        verdict_style(decided.verdict)
    } else {
        Style::new()
    };
    let clock = decided.time.get(11..23).unwrap_or(&decided.time);
    let what = format!("{}/{} {}", decided.protocol, decided.port, decided.address);
    let cells = [
        clock.to_owned(),
        outcome(decided),
        what,
        who(decided),
        process(decided),
        decided.cgroup.clone().unwrap_or_else(|| "(gone)".into()),
    ];
    format!("{style}{}{}{style:#}\n", row(&cells), why(decided))
}

fn row(cells: &[String]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        line.push_str(cell);
        // A cell that is too wide shifts the rest of its line, but is not cut.
        let pad = width.saturating_sub(cell.width()).max(1);
        line.extend(std::iter::repeat_n(' ', pad));
    }
    line
}

/// The verdict, as what happened: in audit mode it did not.
fn outcome(decided: &DecisionEvent) -> String {
    match decided.verdict {
        Verdict::Allow | Verdict::Deny if !decided.enforced => format!("would {}", decided.verdict),
        verdict => verdict.to_string(),
    }
}

/// The thread's name and the process; `*` where there were several.
fn process(decided: &DecisionEvent) -> String {
    let comm = decided.comm.as_deref().unwrap_or("*");
    match decided.pid {
        Some(pid) => format!("{comm}[{pid}]"),
        None => format!("{comm}[*]"),
    }
}

fn who(decided: &DecisionEvent) -> String {
    let name = decided.user.as_deref().unwrap_or("?");
    if decided.uid == decided.euid {
        format!("{name}({})", decided.uid)
    } else {
        format!("{name}({}) as {}", decided.uid, decided.euid)
    }
}

fn why(decided: &DecisionEvent) -> String {
    let mut why = match (&decided.rule, decided.reason) {
        (Some(rule), _) => format!("rule {rule}"),
        (None, Reason::NoMemory) => "no memory to read the groups".into(),
        (None, Reason::UnresolvedCgroup) => "unresolved cgroup".into(),
        (None, Reason::None) => "default".into(),
    };
    if !decided.enforced {
        why.push_str(", audit only");
    } else if let Some(errno) = decided.errno {
        why.push_str(&format!(", {errno}"));
    } else if decided.granted {
        why.push_str(", capability check skipped");
    }
    if decided.count > 1 {
        why.push_str(&format!(", x{}", decided.count));
    }
    why
}

/// The decision as a sentence, for a log that has its fields too.
pub(super) fn sentence(decided: &DecisionEvent) -> String {
    format!(
        "{} {}/{} {} by {} {} in {}: {}",
        outcome(decided),
        decided.protocol,
        decided.port,
        decided.address,
        who(decided),
        process(decided),
        decided.cgroup.as_deref().unwrap_or("(gone)"),
        why(decided),
    )
}

const fn verdict_style(verdict: Verdict) -> Style {
    let color = match verdict {
        Verdict::Allow => AnsiColor::Green,
        Verdict::Deny => AnsiColor::Red,
        Verdict::Kernel => return Style::new(),
    };
    Style::new().fg_color(Some(Color::Ansi(color)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::events::sinks) fn decided() -> DecisionEvent {
        serde_json::from_str(include_str!("../../../tests/event.json")).unwrap()
    }

    #[test]
    fn text_line_has_all_columns() {
        assert_eq!(
            line(&decided(), false),
            "03:04:05.678 deny        tcp/80 127.0.0.1              alice(1000) as 0      \
             ncat[4242]              /user.slice                 rule web, EACCES\n"
        );
    }

    #[test]
    fn text_line_shows_count() {
        let folded = DecisionEvent {
            count: 1234,
            ..decided()
        };
        assert!(line(&folded, false).ends_with("rule web, EACCES, x1234\n"));
        assert_eq!(
            sentence(&folded),
            "deny tcp/80 127.0.0.1 by alice(1000) as 0 ncat[4242] in /user.slice: rule web, EACCES, x1234"
        );
    }

    #[test]
    fn text_line_names_no_process_of_several() {
        let several = DecisionEvent {
            pid: None,
            comm: None,
            several: true,
            ..decided()
        };
        assert!(line(&several, false).contains(" *[*] "));
    }

    #[test]
    fn text_line_shows_audit_and_default() {
        let audit = DecisionEvent {
            enforced: false,
            errno: None,
            rule: None,
            ..decided()
        };
        assert!(line(&audit, false).ends_with("default, audit only\n"));
        assert!(line(&audit, false).contains(" would deny  tcp/80 "));
        assert!(sentence(&audit).starts_with("would deny tcp/80 "));
        let kernel = DecisionEvent {
            verdict: Verdict::Kernel,
            ..audit.clone()
        };
        assert!(sentence(&kernel).starts_with("kernel tcp/80 "));
        assert!(line(&audit, true).starts_with("\u{1b}[31m"));
    }

    #[test]
    fn reason_stands_in_place_of_default() {
        let why = |reason: Reason| {
            why(&DecisionEvent {
                rule: None,
                errno: None,
                reason,
                ..decided()
            })
        };
        assert_eq!(why(Reason::UnresolvedCgroup), "unresolved cgroup");
        assert_eq!(why(Reason::NoMemory), "no memory to read the groups");
    }
}
