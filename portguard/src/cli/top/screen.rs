//! The screen of `monitor --top`.

use super::super::span::span;
use super::rows::{Shown, columns, rows, rule, user};
use super::tally::{Second, Tally, program};
use super::view::{Table as Which, View};
use crate::events::DecisionEvent;
use crate::status::{Enforcing, Status};
use portguard_common::Verdict;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, SparklineBar, Table, Wrap};

/// Screens lower than this have no graph, and those lower than [`DETAILS`] no details of the selected row.
const GRAPH: u16 = 16;
const DETAILS: u16 = 20;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const RED: Style = Style::new().fg(Color::Red);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let shown = rows(view);
    let latest = view
        .place
        .selected()
        .map(|at| at.min(shown.len().saturating_sub(1)));
    let latest = latest.and_then(|at| shown.get(at)?.latest.clone());
    let troubles = troubles(view);
    let high = frame.area().height;
    let graph = if high >= GRAPH { 3 } else { 0 };
    let told = if high >= DETAILS && latest.is_some() {
        4
    } else {
        0
    };
    let trouble = u16::try_from(troubles.len())
        .unwrap_or(u16::MAX)
        .min(high / 4);
    let length = Constraint::Length;
    let rows = [
        length(2),
        length(trouble),
        length(graph),
        length(1),
        Constraint::Fill(1),
        length(told),
        length(1),
    ];
    let [head, trouble, graph, tabs, table, told, keys] =
        Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(heading(view)), head);
    frame.render_widget(Paragraph::new(troubles), trouble);
    draw_graph(frame, view.shown(), graph);
    frame.render_widget(Paragraph::new(titles(view)), tabs);
    view.page = table.height.saturating_sub(1).max(1);
    draw_table(frame, view, &shown, table);
    if let Some(latest) = latest {
        let details = Paragraph::new(details(&latest)).wrap(Wrap { trim: true });
        frame.render_widget(details, told);
    }
    frame.render_widget(Paragraph::new(help(view)), keys);
}

/// The state of the daemon, and the totals.
fn heading(view: &View) -> Vec<Line<'static>> {
    let tally = view.shown();
    let mut first = vec![Span::styled("portguard", BOLD)];
    match view.status.as_deref() {
        _ if view.gone.is_some() => first.push(Span::styled("  no daemon", ALARM)),
        Some(status) => first.extend(standing(status)),
        None => first.push(Span::styled("  connecting to the daemon ...", DIM)),
    }
    let mut second = vec![
        Span::styled(format!("{}", tally.rate()), BOLD),
        Span::raw(format!("/s, peak {}  seen ", tally.peak())),
        Span::styled(tally.all().to_string(), BOLD),
        Span::raw(format!(" in {}:  ", span(tally.now))),
    ];
    for (count, verdict) in [
        (tally.allow, Verdict::Allow),
        (tally.deny, Verdict::Deny),
        (tally.kernel, Verdict::Kernel),
    ] {
        second.push(Span::styled(
            format!("{count} {verdict}  "),
            style(Some(verdict)),
        ));
    }
    if tally.dropped > 0 {
        let text = format!("{} dropped  ", tally.dropped);
        second.push(Span::styled(text, ALARM));
    }
    vec![Line::from(first), Line::from(second)]
}

fn standing(status: &Status) -> Vec<Span<'static>> {
    let mut spans = vec![Span::raw("  ")];
    spans.push(match status.enforcing {
        Enforcing::Enforce => Span::styled("enforcing", Style::new().fg(Color::Green)),
        Enforcing::Audit => Span::styled("auditing", Style::new().fg(Color::Yellow)),
        Enforcing::Degraded => Span::styled("degraded", ALARM),
        Enforcing::Inactive => Span::styled("not enforcing", ALARM),
    });
    if let Some(hook) = &status.hook {
        spans.push(Span::raw(format!("  hook {hook}")));
    }
    if let Some(policy) = &status.policy {
        spans.push(Span::raw(format!("  policy {}", policy.hash)));
    }
    if let Some(daemon) = &status.daemon {
        spans.push(Span::raw(format!("  up {}", span(daemon.uptime))));
    }
    let all = status.decisions.all();
    spans.push(Span::raw(format!("  decided {all}")));
    let dropped: u64 = status.dropped.values().sum();
    let text = format!("  dropped {dropped}");
    spans.push(Span::styled(text, if dropped > 0 { ALARM } else { DIM }));
    spans
}

/// Problems, one per line.
fn troubles(view: &View) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(gone) = &view.gone {
        lines.push(Line::styled(format!("{gone}; retrying"), ALARM));
    }
    if let Some(status) = view.status.as_deref() {
        lines.extend(
            status
                .problems
                .iter()
                .map(|problem| Line::styled(problem.clone(), RED)),
        );
        let failed = status
            .reloads
            .as_ref()
            .and_then(|reloads| reloads.error.as_ref());
        if let Some(line) = failed.and_then(|error| error.lines().next()) {
            lines.push(Line::styled(format!("the last reload failed: {line}"), RED));
        }
    }
    lines
}

/// Decisions per second; seconds in which something was denied are red.
fn draw_graph(frame: &mut Frame<'_>, tally: &Tally, area: Rect) {
    let width = usize::from(area.width);
    // The current second is not complete.
    let whole: Vec<Second> = tally
        .history
        .iter()
        .rev()
        .skip(1)
        .take(width)
        .copied()
        .collect();
    let none = std::iter::repeat_n(Second::default(), width.saturating_sub(whole.len()));
    let bars = none.chain(whole.into_iter().rev()).map(|second| {
        let color = if second.denied > 0 {
            Color::Red
        } else {
            Color::Blue
        };
        SparklineBar::from(second.all).style(Some(Style::new().fg(color)))
    });
    frame.render_widget(Sparkline::default().data(bars), area);
}

fn titles(view: &View) -> Line<'static> {
    let mut spans = Vec::new();
    for table in Which::ALL {
        let style = match table == view.table {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        spans.push(Span::styled(format!(" {} ", table.title()), style));
        spans.push(Span::raw(" "));
    }
    let by = match (view.table, view.order) {
        (Which::Rules, super::tally::Order::Port) => "file",
        (_, order) => order.name(),
    };
    spans.push(Span::styled(format!(" sorted by {by}"), DIM));
    Line::from(spans)
}

fn draw_table(frame: &mut Frame<'_>, view: &mut View, shown: &[Shown], area: Rect) {
    if shown.is_empty() {
        let text = match view.table {
            Which::Binds => "no bind of a protected port yet",
            Which::Refused => "no bind refused yet",
            Which::Rules => "no decision yet",
        };
        frame.render_widget(Paragraph::new(Line::styled(text, DIM)), area);
        return;
    }
    let columns = columns(view.table);
    let header = Row::new(columns.iter().map(|(title, _)| *title)).style(BOLD);
    let lines = shown.iter().map(|shown| {
        let cells = shown.cells.iter().map(|cell| Cell::from(cell.as_str()));
        Row::new(cells).style(style(shown.verdict))
    });
    let table = Table::new(lines, columns.iter().map(|(_, width)| *width))
        .header(header)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut view.place);
}

/// The latest decision of the selected row in full.
fn details(latest: &DecisionEvent) -> Vec<Line<'static>> {
    let time = latest.time.get(11..23).unwrap_or(&latest.time);
    let outcome = match (&latest.errno, latest.enforced, latest.granted) {
        (_, false, _) => "audit only".to_owned(),
        (Some(errno), ..) => errno.to_string(),
        (None, _, true) => "capability check skipped".into(),
        (None, ..) => "left to the kernel".into(),
    };
    vec![
        Line::from(vec![
            Span::styled(format!("latest {time}  "), BOLD),
            Span::styled(latest.verdict.to_string(), style(Some(latest.verdict))),
            Span::raw(format!(
                " {}/{} {}: {outcome}, rule {}",
                latest.protocol,
                latest.port,
                latest.address,
                rule(latest.rule.as_deref())
            )),
        ]),
        Line::raw(format!(
            "user {}, euid {}, gid {}, egid {}; process {} {} ({})",
            user(latest),
            latest.euid,
            latest.gid,
            latest.egid,
            latest
                .pid
                .map_or_else(|| "*".to_owned(), |pid| pid.to_string()),
            program(latest),
            latest.comm.as_deref().unwrap_or("*")
        )),
        Line::raw(format!(
            "cgroup {}; netns {}",
            latest.cgroup.as_deref().unwrap_or("(gone)"),
            latest.netns
        )),
    ]
}

fn help(view: &View) -> Line<'static> {
    let mut spans = Vec::new();
    if view.is_paused() {
        let style = Style::new()
            .fg(Color::Yellow)
            .add_modifier(Modifier::REVERSED);
        spans.push(Span::styled(" paused ", style));
        spans.push(Span::raw(" "));
    }
    let keys = "q quit  tab table  \u{2191}\u{2193} select  esc clear  s sort  p pause";
    spans.push(Span::styled(keys, DIM));
    Line::from(spans)
}

fn style(verdict: Option<Verdict>) -> Style {
    match verdict {
        Some(Verdict::Allow) => Style::new().fg(Color::Green),
        Some(Verdict::Deny) => RED,
        Some(Verdict::Kernel) | None => Style::new(),
    }
}
