//! The oracle's own YAML writer.

use super::model::{Model, ModelRule, Span};
use std::fmt::Write as _;

impl Model {
    /// The policy as a file.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut text = self.settings_yaml();
        text.push_str(&rules_yaml(&self.rules));
        text
    }

    /// The version and the settings, without rules.
    #[must_use]
    pub fn settings_yaml(&self) -> String {
        let mode = if self.enforce { "enforce" } else { "audit" };
        format!(
            "version: 1\nmode: {mode}\ndefault: {}\nprotect: {}\nlog: {}\n",
            self.default.name(),
            spans_yaml(&self.protect),
            self.log.name(),
        )
    }
}

/// The `rules:` section.
#[must_use]
pub fn rules_yaml(rules: &[ModelRule]) -> String {
    if rules.is_empty() {
        return "rules: []\n".to_owned();
    }
    let mut text = String::from("rules:\n");
    for rule in rules {
        rule_yaml(&mut text, rule);
    }
    text
}

fn rule_yaml(text: &mut String, rule: &ModelRule) {
    let mut line = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key}: {value}");
    };
    line("  - name", quoted(&rule.name));
    line("    action", rule.action.name().to_owned());
    if let Some(ports) = &rule.ports {
        line("    ports", spans_yaml(ports));
    }
    if let Some(protocols) = &rule.protocols {
        line(
            "    protocols",
            list(protocols.iter().map(|p| p.name().to_owned())),
        );
    }
    if let Some(users) = &rule.users {
        line("    users", spans_yaml(users));
    }
    if let Some(groups) = &rule.groups {
        line("    groups", spans_yaml(groups));
    }
    if let Some(units) = &rule.units {
        line("    units", list(units.iter().map(|unit| quoted(unit))));
    }
    if let Some(addresses) = &rule.addresses {
        line(
            "    addresses",
            list(addresses.iter().map(|net| quoted(&net.to_string()))),
        );
    }
    if rule.audit {
        line("    mode", "audit".to_owned());
    }
    if let Some(log) = rule.log {
        line("    log", log.name().to_owned());
    }
    if let Some(errno) = rule.errno {
        line("    errno", errno.to_owned());
    }
    if let Some(cgroups) = &rule.cgroups {
        line(
            "    cgroups",
            list(cgroups.iter().map(|p| quoted(&slashed(p)))),
        );
    }
}

/// A path as policies and events write it: `/` is the root.
#[must_use]
pub fn slashed(path: &[String]) -> String {
    format!("/{}", path.join("/"))
}

/// A single number as such, a range in quotes.
fn spans_yaml<T: PartialEq + std::fmt::Display>(spans: &[Span<T>]) -> String {
    list(spans.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("\"{first}-{last}\"")
        }
    }))
}

fn list(entries: impl Iterator<Item = String>) -> String {
    format!("[{}]", entries.collect::<Vec<_>>().join(", "))
}

/// A YAML scalar in single quotes, in which only the quote is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
