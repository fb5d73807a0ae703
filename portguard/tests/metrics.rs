//! The metrics: read by a parser, compared with their documentation, scraped over loopback.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

#[path = "metrics/scrape.rs"]
mod scrape;
#[path = "metrics/unix.rs"]
mod unix;

use portguard::metrics::render;
use portguard::status::{
    DaemonStatus, Decisions, Enforcing, PolicyInForce, Reloads, RuleHits, Status,
};
use portguard_common::{Hook, Verdict};
use portguard_policy::policy::{Mode, Scope};
use prometheus_parse::{Scrape, Value};
use std::collections::{BTreeMap, BTreeSet};

fn rule(name: Option<&str>, verdict: Verdict, hits: u64) -> RuleHits {
    RuleHits {
        name: name.map(Into::into),
        verdict,
        origin: None,
        audit: false,
        hits,
    }
}

/// Of which there is something to say everywhere.
fn status() -> Status {
    Status {
        enforcing: Enforcing::Enforce,
        hook: Some(Hook::Lsm),
        daemon: Some(DaemonStatus {
            pid: 1,
            version: "1.2.3".into(),
            since: "2026-01-02T03:04:05.5Z".into(),
            uptime: 60,
        }),
        kernel: "6.12.0".into(),
        policy: Some(PolicyInForce {
            hash: "0123456789ab".into(),
            revision: "fedcba987654".into(),
            origin: vec!["/etc/portguard/policies".into()],
            generation: 1,
            since: "2026-01-02T03:04:06Z".into(),
            mode: Mode::Enforce,
            default: Verdict::Kernel,
            protect: "1-1023".into(),
            scope: Scope::Host,
        }),
        rules: vec![
            rule(Some("web"), Verdict::Allow, 3),
            rule(None, Verdict::Kernel, 5),
        ],
        decisions: Decisions {
            allow: 3,
            deny: (1 << 53) + 1,
            kernel: 5,
        },
        dropped: BTreeMap::from([("ring_full".into(), 0), ("stdout".into(), 7)]),
        reloads: Some(Reloads {
            done: 2,
            failed: 1,
            last: None,
            error: Some("broken".into()),
        }),
        pins: None,
        problems: vec!["one".into()],
        reattached: 4,
        fallback: None,
        violations: Some(6),
        hardening: None,
    }
}

fn scrape(text: &str) -> Scrape {
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The value of the one sample with these labels and no others.
fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = scrape.samples.iter().filter(|sample| {
        sample.metric == name
            && sample.labels.len() == labels.len()
            && labels
                .iter()
                .all(|(key, is)| sample.labels.get(key) == Some(is))
    });
    let sample = found.next()?;
    assert!(found.next().is_none(), "{name} {labels:?} twice");
    match sample.value {
        Value::Counter(value) if name.ends_with("_total") => Some(value),
        Value::Gauge(value) if !name.ends_with("_total") => Some(value),
        ref other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn metrics_render_full_status() {
    let scrape = scrape(&render(&status()));
    let value = |name, labels: &[_]| value(&scrape, name, labels);
    let total = "portguard_rule_decisions_total";
    for (name, labels, is) in [
        ("portguard_enforcing", &[][..], 1.0),
        ("portguard_state", &[("state", "enforce")], 1.0),
        ("portguard_state", &[("state", "degraded")], 0.0),
        ("portguard_problems", &[], 1.0),
        ("portguard_hook_info", &[("hook", "lsm")], 1.0),
        (
            "portguard_policy_applied_timestamp_seconds",
            &[],
            1_767_323_046.0,
        ),
        ("portguard_decisions_total", &[("verdict", "allow")], 3.0),
        ("portguard_decisions_total", &[("verdict", "kernel")], 5.0),
        (total, &[("rule", "web"), ("verdict", "allow")], 3.0),
        (total, &[("rule", ""), ("verdict", "kernel")], 5.0),
        (
            "portguard_events_dropped_total",
            &[("reason", "ring_full")],
            0.0,
        ),
        (
            "portguard_events_dropped_total",
            &[("reason", "stdout")],
            7.0,
        ),
        ("portguard_reloads_total", &[("result", "success")], 2.0),
        ("portguard_reloads_total", &[("result", "failure")], 1.0),
        ("portguard_reload_failed", &[], 1.0),
        ("portguard_reattached_total", &[], 4.0),
        ("portguard_existing_violations", &[], 6.0),
        ("portguard_build_info", &[("version", "1.2.3")], 1.0),
        ("process_start_time_seconds", &[], 1_767_323_045.0),
    ] {
        assert_eq!(value(name, labels), Some(is), "{name} {labels:?}");
    }
    let policy = [
        ("hash", "0123456789ab"),
        ("revision", "fedcba987654"),
        ("origin", "/etc/portguard/policies"),
        ("mode", "enforce"),
    ];
    assert_eq!(value("portguard_policy_info", &policy), Some(1.0));
}

#[test]
fn metrics_keep_counters_exact_and_escape_labels() {
    let mut status = status();
    status.rules = vec![rule(Some("a\"b\\c\nd"), Verdict::Deny, 1)];
    let text = render(&status);
    let exact = "portguard_decisions_total{verdict=\"deny\"} 9007199254740993\n";
    assert!(text.contains(exact), "{text}");
    let escaped = "portguard_rule_decisions_total{rule=\"a\\\"b\\\\c\\nd\",verdict=\"deny\"} 1\n";
    assert!(text.contains(escaped), "{text}");
}

#[test]
fn metrics_omit_unknown_values() {
    let mut status = status();
    status.enforcing = Enforcing::Audit;
    status.daemon = None;
    status.hook = None;
    status.policy = None;
    status.reloads = None;
    status.violations = None;
    status.dropped.clear();
    let text = render(&status);
    for name in [
        "portguard_build_info",
        "process_start",
        "portguard_hook",
        "portguard_policy",
        "portguard_events_dropped",
        "portguard_reload",
        "portguard_existing_violations",
    ] {
        assert!(!text.contains(name), "{name}: {text}");
    }
    let scrape = scrape(&text);
    assert_eq!(value(&scrape, "portguard_enforcing", &[]), Some(0.0));
    let audit = [("state", "audit")];
    assert_eq!(value(&scrape, "portguard_state", &audit), Some(1.0));
}

/// Name, type and labels of a metric.
type Described = (String, String, BTreeSet<String>);

/// The rows of docs/metrics.md.
fn documented() -> BTreeSet<Described> {
    let text = include_str!("../../docs/metrics.md");
    let quoted = |cell: &str| -> BTreeSet<String> {
        let between = cell.split('`').skip(1).step_by(2);
        between.map(Into::into).collect()
    };
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        (name, cells[2].to_owned(), quoted(cells[3]))
    })
    .collect()
}

#[test]
fn metrics_match_documentation() {
    let text = render(&status());
    let scrape = scrape(&text);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exported: BTreeSet<Described> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            let mut samples = scrape.samples.iter();
            let sample = samples.find(|sample| sample.metric == name).unwrap();
            let labels = sample.labels.keys().cloned().collect();
            (name.to_owned(), kind.to_owned(), labels)
        })
        .collect();
    assert_eq!(exported, documented());
}
