//! Reads YAML values with their places: every helper either gives the value or notes a problem.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::model::{GivenNames, Location};
use super::name_service::Names;
use super::spans::{Mark, Spans};
use serde_yaml::{Mapping, Value};
use std::path::Path;

/// What the readers of a file share.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    pub(super) marks: &'a Spans,
    pub(super) names: &'a dyn Names,
    /// Names of users to suggest, read where one is unknown.
    pub(super) known_users: Option<Vec<String>>,
    /// The same of groups.
    pub(super) known_groups: Option<Vec<String>>,
    /// Names of the file, resolved.
    pub(super) given: GivenNames,
    pub(super) problems: Diagnostics,
}

impl Reader<'_> {
    /// The place of the value at `path`.
    pub(super) fn place(&self, path: &str) -> Location {
        self.place_of(self.marks.value(path))
    }

    fn place_of(&self, mark: Mark) -> Location {
        Location {
            file: self.file.into(),
            line: mark.line,
            column: mark.column,
        }
    }

    fn note(&mut self, severity: Severity, mark: Mark, message: String, help: Option<String>) {
        let place = self.place_of(mark);
        let problem = Diagnostic::at(severity, place, mark.len, message);
        self.problems.push(problem.with_help(help));
    }

    /// Notes an error at the value at `path`.
    pub(super) fn error(&mut self, path: &str, message: impl Into<String>, help: Option<String>) {
        self.note(
            Severity::Error,
            self.marks.value(path),
            message.into(),
            help,
        );
    }

    /// Notes an error at the key of `path`.
    pub(super) fn error_at_key(
        &mut self,
        path: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.note(Severity::Error, self.marks.key(path), message.into(), help);
    }

    /// Notes a warning at the value at `path`.
    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.note(
            Severity::Warning,
            self.marks.value(path),
            message.into(),
            None,
        );
    }

    /// The mapping at `path` with only `known` keys.
    pub(super) fn mapping<'v>(
        &mut self,
        value: &'v Value,
        path: &str,
        known: &[&str],
    ) -> Option<&'v Mapping> {
        let Value::Mapping(mapping) = value else {
            self.expected(path, "keys and values", value);
            return None;
        };
        for key in mapping.keys() {
            let word = scalar_text(key).unwrap_or_default();
            let at = format!("{path}/{word}");
            if !known.contains(&word.as_str()) {
                let full = self.problems.is_full();
                let near = || nearest(&word, known.iter().copied());
                let help = if full { None } else { near() };
                self.error_at_key(
                    &at,
                    format!("unknown key `{word}`"),
                    help.or_else(|| all_of(known)),
                );
            }
        }
        Some(mapping)
    }

    /// The entries of the list at `path`, which has at least one.
    pub(super) fn list<'v>(
        &mut self,
        value: &'v Value,
        path: &str,
        what: &str,
    ) -> Option<&'v [Value]> {
        match value {
            Value::Sequence(entries) if entries.is_empty() => {
                self.error(
                    path,
                    format!("the list of {what} is empty"),
                    Some("leave the key out to match all".into()),
                );
                None
            }
            Value::Sequence(entries) => Some(entries),
            Value::Number(_) | Value::String(_) => {
                let text = scalar_text(value).unwrap_or_default();
                self.error(
                    path,
                    format!("expected a list of {what}, found {}", kind(value)),
                    Some(format!("write `[{text}]`")),
                );
                None
            }
            _ => {
                self.expected(path, &format!("a list of {what}"), value);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        value: &Value,
        path: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let Value::String(text) = value else {
            self.expected(path, &either(&names), value);
            return None;
        };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text) {
            return Some(*meaning);
        }
        let help = nearest(text, names.iter().copied());
        self.error(
            path,
            format!("expected {}, found `{text}`", either(&names)),
            help,
        );
        None
    }

    /// A text.
    pub(super) fn text<'v>(&mut self, value: &'v Value, path: &str, what: &str) -> Option<&'v str> {
        match value {
            Value::String(text) => Some(text),
            _ => {
                self.expected(path, what, value);
                None
            }
        }
    }

    /// Notes a value of the wrong kind.
    pub(super) fn expected(&mut self, path: &str, what: &str, found: &Value) {
        self.error(
            path,
            format!("expected {what}, found {}", kind(found)),
            None,
        );
    }
}

/// The kind of a value, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "keys and values",
        Value::Tagged(_) => "a tag",
    }
}

/// A scalar as it may be written.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(" or ")
}

fn all_of(words: &[&str]) -> Option<String> {
    Some(format!("known here: {}", words.join(", ")))
}

/// The nearest of `words`, as a suggestion, where one is near enough.
pub(super) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    words
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| format!("did you mean `{known}`?"))
}
