//! The alerts and the dashboard name only metrics that exist, and each alert has its runbook.

use crate::documented;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const RULES: &str = include_str!("../../../dist/prometheus/portguard.rules.yml");
const TESTS: &str = include_str!("../../../dist/prometheus/portguard.rules.test.yml");
const BOARD: &str = include_str!("../../../dist/grafana/portguard.json");
const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

/// Words that begin as metrics of portguard, in expressions.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let words = expression.split(end);
    words.filter(|word| {
        ["portguard_", "portguard:", "process_"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
    })
}

/// The values of a key in YAML lines.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        line.strip_prefix(key)?.strip_prefix(": ")
    });
    lines.map(str::trim).collect()
}

/// The metrics that are documented, and those that the rules record.
fn known() -> BTreeSet<String> {
    let recorded = values(RULES, "record").into_iter().map(str::to_owned);
    let documented = documented().into_iter().map(|(name, ..)| name);
    documented.chain(recorded).collect()
}

#[test]
fn alerts_name_metrics_that_exist() {
    let known = known();
    let mut count = 0;
    let comment = |line: &&str| !line.trim_start().starts_with('#');
    for line in RULES.lines().filter(comment) {
        for name in metrics(line).filter(|name| *name != "portguard:") {
            assert!(known.contains(name), "{name}");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn alerts_have_a_severity_a_runbook_and_a_test() {
    let alerts = values(RULES, "alert");
    assert!(alerts.len() >= 9, "{alerts:?}");
    for key in ["severity", "summary", "runbook"] {
        assert_eq!(values(RULES, key).len(), alerts.len(), "{key}");
    }
    for runbook in values(RULES, "runbook") {
        let path = Path::new("..").join(runbook);
        assert!(path.is_file(), "{runbook}");
        let link = runbook.trim_start_matches("docs/");
        assert!(DOCUMENT.contains(&format!("]({link})")), "{runbook}");
    }
    for alert in alerts {
        assert!(DOCUMENT.contains(&format!("| `{alert}` |")), "{alert}");
        assert!(TESTS.contains(&format!("alertname: {alert}\n")), "{alert}");
    }
}

#[test]
fn board_is_one_that_grafana_imports() {
    let board: Value = serde_json::from_str(BOARD).unwrap();
    let known = known();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
        assert!(right <= 24, "{title} is wider than the board");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let names: Vec<&str> = metrics(expression).collect();
            assert!(!names.is_empty(), "{title}");
            for name in names {
                assert!(known.contains(name), "{title}: {name}");
            }
        }
    }
    let variables = board["templating"]["list"].as_array().unwrap();
    for name in ["datasource", "job", "instance"] {
        assert!(variables.iter().any(|one| one["name"] == name), "{name}");
    }
}
