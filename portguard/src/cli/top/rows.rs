//! The rows of the tables, as text.

use super::tally::{Order, Row, Tally, program};
use super::view::{Table, View};
use crate::events::DecisionEvent;
use crate::status::RuleHits;
use portguard_common::Verdict;
use ratatui::layout::Constraint::{self, Fill, Length};
use std::cmp::Reverse;
use std::sync::Arc;

/// A row, and its details when it is selected.
pub(super) struct Shown {
    pub(super) cells: Vec<String>,
    /// Chooses its colour.
    pub(super) verdict: Option<Verdict>,
    pub(super) latest: Option<Arc<DecisionEvent>>,
}

/// Titles of the columns and how wide they are.
pub(super) fn columns(table: Table) -> &'static [(&'static str, Constraint)] {
    match table {
        Table::Binds => &[
            ("   COUNT", Length(8)),
            ("     /S", Length(7)),
            ("VERDICT", Length(8)),
            ("PORT", Length(10)),
            ("USER", Fill(2)),
            ("PROGRAM", Fill(2)),
            ("CGROUP", Fill(3)),
            ("LAST", Length(5)),
        ],
        Table::Refused => &[
            ("   COUNT", Length(8)),
            ("     /S", Length(7)),
            ("PORT", Length(10)),
            ("USER", Fill(2)),
            ("PROGRAM", Fill(2)),
            ("BY RULE", Fill(3)),
            ("CGROUP", Fill(3)),
            ("LAST", Length(5)),
        ],
        Table::Rules => &[
            ("    HITS", Length(8)),
            ("    SEEN", Length(8)),
            ("     /S", Length(7)),
            ("VERDICT", Length(8)),
            ("RULE", Fill(2)),
            ("LATEST", Fill(3)),
            ("LAST", Length(5)),
        ],
    }
}

/// The rows below the titles.
pub(super) fn rows(view: &View) -> Vec<Shown> {
    let tally = view.shown();
    match view.table {
        Table::Binds => {
            let rows = tally.binds.sorted(view.order).into_iter();
            let rows = rows.map(|row| shown(row, bind(row, tally)));
            rows.chain(other(tally.binds.other())).collect()
        }
        Table::Refused => {
            let rows = tally.refused.sorted(view.order).into_iter();
            let rows = rows.map(|row| shown(row, refused(row, tally)));
            rows.chain(other(tally.refused.other())).collect()
        }
        Table::Rules => by_rule(view),
    }
}

fn shown(row: &Row, cells: Vec<String>) -> Shown {
    Shown {
        cells,
        verdict: Some(row.latest.verdict),
        latest: Some(Arc::clone(&row.latest)),
    }
}

fn other(count: u64) -> Option<Shown> {
    (count > 0).then(|| Shown {
        cells: vec![
            format!("{count:>8}"),
            "others, too many for a row each".into(),
        ],
        verdict: None,
        latest: None,
    })
}

fn bind(row: &Row, tally: &Tally) -> Vec<String> {
    let latest = &row.latest;
    vec![
        format!("{:>8}", row.count),
        rate(row.rate),
        verdict(latest),
        port(latest),
        user(latest),
        last_name(program(latest)),
        cgroup(latest),
        age(tally.now - row.last),
    ]
}

fn refused(row: &Row, tally: &Tally) -> Vec<String> {
    let latest = &row.latest;
    vec![
        format!("{:>8}", row.count),
        rate(row.rate),
        port(latest),
        user(latest),
        last_name(program(latest)),
        rule(latest.rule.as_deref()),
        cgroup(latest),
        age(tally.now - row.last),
    ]
}

/// The rules of the policy in force, with hits or without, then rules of previous policies with hits.
fn by_rule(view: &View) -> Vec<Shown> {
    let tally = view.shown();
    let status = view.status.as_ref();
    let known: &[RuleHits] = status.map_or(&[], |status| &status.rules);
    let mut lines: Vec<(Option<&RuleHits>, Option<&Row>)> = known
        .iter()
        .map(|hits| (Some(hits), tally.rules.get(&hits.name)))
        .collect();
    let unknown = tally.rules.sorted(view.order).into_iter();
    let unknown = unknown.filter(|row| known.iter().all(|hits| hits.name != row.latest.rule));
    lines.extend(unknown.map(|row| (None, Some(row))));
    match view.order {
        // In the order of the policy.
        Order::Port => {}
        Order::Count => lines.sort_by_key(|(hits, row)| {
            Reverse((
                hits.map_or(0, |hits| hits.hits),
                row.map_or(0, |row| row.count),
            ))
        }),
        order @ (Order::Rate | Order::Last) => lines.sort_by(|(_, a), (_, b)| match (a, b) {
            (Some(a), Some(b)) => order.compare(a, b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }),
    }
    let lines = lines.into_iter();
    lines
        .map(|(hits, row)| rule_row(hits, row, tally))
        .chain(other(tally.rules.other()))
        .collect()
}

fn rule_row(hits: Option<&RuleHits>, row: Option<&Row>, tally: &Tally) -> Shown {
    let latest = row.map(|row| &row.latest);
    let name = match (hits, latest) {
        (Some(hits), _) => hits.name.as_deref(),
        (None, latest) => latest.and_then(|latest| latest.rule.as_deref()),
    };
    let verdict = match (hits, latest) {
        (Some(hits), _) => Some(hits.verdict),
        (None, latest) => latest.map(|latest| latest.verdict),
    };
    let did = |latest: &Arc<DecisionEvent>| format!("{} {}", user(latest), port(latest));
    Shown {
        cells: vec![
            // The status has no hits for rules of previous policies.
            hits.map_or_else(|| format!("{:>8}", "-"), |hits| format!("{:>8}", hits.hits)),
            format!("{:>8}", row.map_or(0, |row| row.count)),
            row.map_or_else(|| rate(0.0), |row| rate(row.rate)),
            verdict
                .map(|verdict| verdict.to_string())
                .unwrap_or_default(),
            rule(name),
            latest.map(did).unwrap_or_default(),
            row.map(|row| age(tally.now - row.last)).unwrap_or_default(),
        ],
        verdict,
        latest: latest.cloned(),
    }
}

/// Marks decisions in audit mode.
fn verdict(decided: &DecisionEvent) -> String {
    match decided.enforced {
        true => decided.verdict.to_string(),
        false => format!("({})", decided.verdict),
    }
}

fn port(decided: &DecisionEvent) -> String {
    format!("{}/{}", decided.protocol, decided.port)
}

/// User name and uid.
pub(super) fn user(decided: &DecisionEvent) -> String {
    match &decided.user {
        Some(name) => format!("{name}({})", decided.uid),
        None => decided.uid.to_string(),
    }
}

/// Rule name, or the default.
pub(super) fn rule(name: Option<&str>) -> String {
    name.unwrap_or("(default)").to_owned()
}

fn last_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// The end of the path: its beginning is the same for most.
fn cgroup(decided: &DecisionEvent) -> String {
    match decided.cgroup.as_deref() {
        None => "(gone)".into(),
        Some("/") => "/".into(),
        Some(path) => last_name(path),
    }
}

fn rate(rate: f64) -> String {
    match rate {
        0.0 => format!("{:>7}", ""),
        _ if rate < 10.0 => format!("{rate:>7.1}"),
        _ => format!("{rate:>7.0}"),
    }
}

/// Seconds ago, in one unit.
fn age(seconds: u64) -> String {
    match seconds {
        0 => "now".into(),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
