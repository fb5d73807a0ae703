//! A decision as a table line for a terminal, and as a sentence for logs.

use super::Layout;
use crate::events::DecisionEvent;
use anstyle::{AnsiColor, Color, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use portguard_common::{Reason, Verdict};
use unicode_width::UnicodeWidthStr;

/// The widths of all columns but the last, with the space after them: on a wide terminal, on others, and how wide it
/// must be.
const WIDE: [usize; 6] = [19, 12, 30, 22, 24, 28];
const NARROW: [usize; 6] = [15, 11, 22, 16, 19, 20];
const WIDE_FROM: u16 = 160;

impl Layout {
    fn is_wide(self) -> bool {
        self.columns.is_none_or(|columns| columns >= WIDE_FROM)
    }

    /// Cells in their columns. What does not fit into the terminal's width is on a line of its own below; a cell that
    /// is too wide shifts the rest, but is not cut.
    fn row(self, cells: &[String]) -> String {
        let widths = if self.is_wide() { WIDE } else { NARROW };
        let indent = widths.first().copied().unwrap_or_default();
        let limit = self.columns.map_or(usize::MAX, usize::from);
        let mut row = String::new();
        let (mut at, mut continued) = (0, false);
        for (number, cell) in cells.iter().enumerate() {
            let length = cell.width();
            if at + length > limit && at > indent {
                row.truncate(row.trim_end().len());
                row.push('\n');
                row.extend(std::iter::repeat_n(' ', indent));
                (at, continued) = (indent, true);
            }
            row.push_str(cell);
            at += length;
            // The last column has no width.
            if let Some(width) = widths.get(number) {
                let pad = if continued {
                    2
                } else {
                    width.saturating_sub(length).max(1)
                };
                row.extend(std::iter::repeat_n(' ', pad));
                at += pad;
            }
        }
        row
    }
}

/// The table's heading.
pub(super) fn heading(layout: Layout) -> String {
    let style = if layout.color {
        Style::new().bold()
    } else {
        Style::new()
    };
    let cells = ["TIME", "VERDICT", "WHAT", "WHO", "PROCESS", "CGROUP", "WHY"].map(String::from);
    format!("{style}{}{style:#}\n", layout.row(&cells))
}

/// The row, its newline included.
pub(super) fn line(decided: &DecisionEvent, layout: Layout) -> String {
    line_in(decided, layout, TimeZone::system())
}

fn line_in(decided: &DecisionEvent, layout: Layout, zone: TimeZone) -> String {
    let style = if layout.color {
        verdict_style(decided.verdict)
    } else {
        Style::new()
    };
    let what = format!("{}/{} {}", decided.protocol, decided.port, decided.address);
    let cells = [
        clock(&decided.time, layout.is_wide(), zone),
        outcome(decided),
        what,
        who(decided),
        process(decided),
        decided.cgroup.clone().unwrap_or_else(|| "(gone)".into()),
        why(decided),
    ];
    format!("{style}{}{style:#}\n", layout.row(&cells))
}

/// The time of day in this zone, with its offset.
fn clock(time: &str, with_millis: bool, zone: TimeZone) -> String {
    let Ok(time) = time.parse::<Timestamp>() else {
        return time.to_owned();
    };
    let zoned = time.to_zoned(zone);
    let clock = if with_millis {
        "%H:%M:%S%.3f"
    } else {
        "%H:%M:%S"
    };
    let offset = if zoned.offset().is_zero() { "Z" } else { "%:z" };
    zoned.strftime(&format!("{clock}{offset}")).to_string()
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

    /// On a terminal of this width, in UTC.
    fn row(decided: &DecisionEvent, columns: Option<u16>) -> String {
        let layout = Layout {
            color: false,
            columns,
        };
        line_in(decided, layout, TimeZone::UTC)
    }

    #[test]
    fn text_line_has_all_columns() {
        let wide = "03:04:05.678Z      deny        tcp/80 127.0.0.1              alice(1000) as 0      \
            ncat[4242]              /user.slice                 rule web, EACCES\n";
        assert_eq!(row(&decided(), None), wide);
        assert_eq!(row(&decided(), Some(160)), wide);
    }

    #[test]
    fn text_line_fits_the_terminal() {
        let named = DecisionEvent {
            cgroup: Some("/system.slice/some-long-name.service".into()),
            ..decided()
        };
        assert_eq!(
            row(&named, Some(80)),
            "03:04:05Z      deny       tcp/80 127.0.0.1      alice(1000) as 0 ncat[4242]\n               \
             /system.slice/some-long-name.service  rule web, EACCES\n"
        );
        assert_eq!(
            row(&decided(), Some(120)),
            "03:04:05Z      deny       tcp/80 127.0.0.1      alice(1000) as 0 ncat[4242]         \
             /user.slice         rule web, EACCES\n"
        );
        for columns in 40..200 {
            let text = row(&named, Some(columns))
                + &heading(Layout {
                    color: false,
                    columns: Some(columns),
                });
            for line in text.lines() {
                // A cgroup path of 36 columns after the indentation.
                assert!(
                    line.width() <= usize::from(columns.max(53)),
                    "{columns}: {line}"
                );
            }
        }
    }

    #[test]
    fn text_line_has_local_time_with_its_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        let clock = |millis| clock(&decided().time, millis, zone.clone());
        assert_eq!(clock(true), "00:04:05.678-03:00");
        assert_eq!(clock(false), "00:04:05-03:00");
    }

    #[test]
    fn text_line_shows_count() {
        let folded = DecisionEvent {
            count: 1234,
            ..decided()
        };
        assert!(row(&folded, None).ends_with("rule web, EACCES, x1234\n"));
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
        assert!(row(&several, None).contains(" *[*] "));
    }

    #[test]
    fn text_line_shows_audit_and_default() {
        let audit = DecisionEvent {
            enforced: false,
            errno: None,
            rule: None,
            ..decided()
        };
        assert!(row(&audit, None).ends_with("default, audit only\n"));
        assert!(row(&audit, None).contains(" would deny  tcp/80 "));
        assert!(sentence(&audit).starts_with("would deny tcp/80 "));
        let kernel = DecisionEvent {
            verdict: Verdict::Kernel,
            ..audit.clone()
        };
        assert!(sentence(&kernel).starts_with("kernel tcp/80 "));
        let layout = Layout {
            color: true,
            columns: None,
        };
        assert!(line(&audit, layout).starts_with("\u{1b}[31m"));
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
