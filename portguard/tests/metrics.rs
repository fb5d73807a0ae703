//! The metrics: read by a parser, compared with their documentation, scraped over loopback.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

#[path = "metrics/boards.rs"]
mod boards;
#[path = "metrics/scrape.rs"]
mod scrape;
#[path = "metrics/unix.rs"]
mod unix;

use portguard::metrics::{Exposition, MetricsRules, render, render_textfile};
use portguard::status::{
    DaemonStatus, Decisions, Enforcing, PolicyInForce, ProcessUsage, ProgramCost, Reloads,
    RuleHits, Status,
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
            usage: Some(ProcessUsage {
                cpu_ms: 1_250,
                resident: 12 << 20,
                virtual_memory: 1 << 30,
                open_fds: 20,
                max_fds: Some(1_024),
            }),
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
        events: Some(9),
        programs: vec![ProgramCost {
            name: "bind4".into(),
            runs: 8,
            run_ns: 5_120,
        }],
        reloads: Some(Reloads {
            done: 2,
            failed: 1,
            last: None,
            last_success: Some("2026-01-02T03:04:07Z".into()),
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

/// What a scraper that asks for nothing gets.
fn prometheus(status: &Status) -> String {
    render(status, MetricsRules::All, Exposition::Prometheus)
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

/// A metric, its labels, and its value.
type Expected = (&'static str, &'static [(&'static str, &'static str)], f64);

/// The samples of [`status`]: name, labels, value.
const SAMPLES: &[Expected] = &[
    ("portguard_enforcing", &[], 1.0),
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
    (
        "portguard_rule_decisions_total",
        &[("rule", "web"), ("verdict", "allow"), ("enforced", "true")],
        3.0,
    ),
    (
        "portguard_rule_decisions_total",
        &[("rule", ""), ("verdict", "kernel"), ("enforced", "true")],
        5.0,
    ),
    ("portguard_events_total", &[], 9.0),
    ("portguard_policy_rules", &[], 1.0),
    ("portguard_program_runs_total", &[("program", "bind4")], 8.0),
    (
        "portguard_program_run_seconds_total",
        &[("program", "bind4")],
        0.000_005_12,
    ),
    (
        "portguard_reload_last_success_timestamp_seconds",
        &[],
        1_767_323_047.0,
    ),
    ("process_cpu_seconds_total", &[], 1.25),
    ("process_open_fds", &[], 20.0),
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
];

#[test]
fn metrics_render_full_status() {
    let scrape = scrape(&prometheus(&status()));
    let value = |name, labels: &[_]| value(&scrape, name, labels);
    for (name, labels, is) in SAMPLES {
        assert_eq!(value(name, labels), Some(*is), "{name} {labels:?}");
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
    let text = prometheus(&status);
    let exact = "portguard_decisions_total{verdict=\"deny\"} 9007199254740993\n";
    assert!(text.contains(exact), "{text}");
    let escaped = "portguard_rule_decisions_total{rule=\"a\\\"b\\\\c\\nd\",verdict=\"deny\",enforced=\"true\"} 1\n";
    assert!(text.contains(escaped), "{text}");
}

/// The lines of rules, without the metric's name.
fn rules(status: &Status, which: MetricsRules) -> Vec<String> {
    let text = render(status, which, Exposition::Prometheus);
    let lines = text.lines().filter_map(|line| {
        let line = line.strip_prefix("portguard_rule_decisions_total{")?;
        Some(line.to_owned())
    });
    lines.collect()
}

#[test]
fn metrics_tell_enforced_from_audited_denials() {
    let mut status = status();
    let audited = RuleHits {
        audit: true,
        ..rule(Some("trial"), Verdict::Deny, 4)
    };
    status.rules = vec![audited, rule(Some("real"), Verdict::Deny, 5)];
    let trial = r#"rule="trial",verdict="deny",enforced="false"} 4"#;
    let real = r#"rule="real",verdict="deny",enforced="true"} 5"#;
    assert_eq!(rules(&status, MetricsRules::All), [trial, real]);
    // In a policy in audit mode no rule is enforced.
    status.policy.as_mut().unwrap().mode = Mode::Audit;
    let real = real.replace("true", "false");
    assert_eq!(rules(&status, MetricsRules::All), [trial, &real]);
}

#[test]
fn metrics_rules_can_be_few() {
    let mut status = status();
    status.rules = vec![
        rule(Some("used"), Verdict::Allow, 3),
        rule(Some("unused"), Verdict::Allow, 0),
    ];
    assert_eq!(rules(&status, MetricsRules::All).len(), 2);
    let used = rules(&status, MetricsRules::Used);
    assert_eq!(used.len(), 1);
    assert!(used[0].starts_with(r#"rule="used""#), "{used:?}");
    assert!(rules(&status, MetricsRules::None).is_empty());
}

#[test]
fn metrics_for_a_textfile_leave_the_process_to_node_exporter() {
    let text = render_textfile(&status(), MetricsRules::All);
    assert!(text.contains("\nportguard_enforcing 1\n"), "{text}");
    assert!(!text.contains("process_"), "{text}");
}

#[test]
fn metrics_are_openmetrics_for_those_who_ask() {
    let text = render(&status(), MetricsRules::All, Exposition::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert!(text.contains("# TYPE portguard_events counter\n"), "{text}");
    assert!(text.contains("\nportguard_events_total 9\n"), "{text}");
}

#[test]
fn metrics_omit_unknown_values() {
    let mut status = status();
    status.events = None;
    status.programs.clear();
    status.enforcing = Enforcing::Audit;
    status.daemon = None;
    status.hook = None;
    status.policy = None;
    status.reloads = None;
    status.violations = None;
    status.dropped.clear();
    let text = prometheus(&status);
    for name in [
        "portguard_build_info",
        "process_start",
        "portguard_hook",
        "portguard_policy",
        "portguard_events",
        "portguard_program",
        "process_",
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
    let is_metric =
        |line: &&str| line.starts_with("| `portguard_") || line.starts_with("| `process_");
    let rows = text.lines().filter(is_metric);
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        (name, cells[2].to_owned(), quoted(cells[3]))
    })
    .collect()
}

#[test]
fn metrics_match_documentation() {
    let text = prometheus(&status());
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
