//! Writes a policy as YAML with comments, one line per field.

use super::{ABOVE, Notes, PolicyFile};
use crate::policy::document::parse;
use serde::Serialize;
use serde_yaml::Value;
use std::fmt;

impl fmt::Display for PolicyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        above(f, &self.notes, "")?;
        for (key, value) in fields(self)? {
            match (key.as_str(), value) {
                ("rules", _) => {
                    writeln!(f, "rules:")?;
                    for rule in &self.rules {
                        above(f, &rule.notes, "  ")?;
                        let mut lead = "  - ";
                        for (key, value) in fields(rule)? {
                            line(f, lead, &key, &value, &rule.notes)?;
                            lead = "    ";
                        }
                    }
                }
                ("tests", _) => {
                    writeln!(f, "tests:")?;
                    for test in &self.tests {
                        let fields = fields(test)?;
                        let each = fields
                            .iter()
                            .map(|(key, value)| format!("{key}: {}", flow(value)));
                        let each: Vec<String> = each.collect();
                        writeln!(f, "  - {{ {} }}", each.join(", "))?;
                    }
                }
                (_, value) => line(f, "", &key, &value, &self.notes)?,
            }
        }
        Ok(())
    }
}

/// The keys and values of a structure, in its order.
fn fields(of: &impl Serialize) -> Result<Vec<(String, Value)>, fmt::Error> {
    let Ok(Value::Mapping(mapping)) = serde_yaml::to_value(of) else {
        return Err(fmt::Error);
    };
    let text = |(key, value): (Value, Value)| Some((key.as_str()?.to_owned(), value));
    Ok(mapping.into_iter().filter_map(text).collect())
}

fn above(f: &mut fmt::Formatter<'_>, notes: &Notes, indent: &str) -> fmt::Result {
    for line in notes.get(ABOVE).iter().flat_map(|note| note.lines()) {
        writeln!(f, "{indent}{}", format!("# {}", printable(line)).trim_end())?;
    }
    Ok(())
}

fn line(
    f: &mut fmt::Formatter<'_>,
    lead: &str,
    key: &str,
    value: &Value,
    notes: &Notes,
) -> fmt::Result {
    write!(f, "{lead}{key}: {}", flow(value))?;
    match notes.get(key) {
        Some(note) => writeln!(f, "  # {}", printable(note)),
        None => writeln!(f),
    }
}

/// A comment quotes text that a process or a file may control.
fn printable(text: &str) -> String {
    crate::escape::escape(text.as_bytes())
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Sequence(entries) => {
            let entries: Vec<String> = entries.iter().map(flow).collect();
            format!("[{}]", entries.join(", "))
        }
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::String(text) => scalar(text),
        // Policies have no other values.
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// A string, quoted where YAML would read it differently. A JSON string is valid YAML.
fn scalar(text: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@' | '*');
    let first = text.chars().next();
    let begins = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let same = || {
        parse(text)
            .root
            .is_some_and(|root| root.as_str() == Some(text))
    };
    if begins && text.chars().all(plain) && same() {
        return text.to_owned();
    }
    serde_json::to_string(text).unwrap_or_default()
}
