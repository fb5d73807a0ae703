//! Reads values with their places: every helper either gives the value or notes a problem.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::document::{Mapping, Node, Span, Value};
use super::model::{GivenNames, Location};
use super::name_service::NameService;
use super::word::Word;
use std::path::Path;

/// What the readers of a file share.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    pub(super) names: &'a dyn NameService,
    /// Names of users to suggest, read where one is unknown.
    pub(super) known_users: Option<Vec<String>>,
    /// The same of groups.
    pub(super) known_groups: Option<Vec<String>>,
    /// Names of the file, resolved.
    pub(super) given: GivenNames,
    pub(super) problems: Diagnostics,
}

impl Reader<'_> {
    /// A place in the file.
    pub(super) fn location(&self, span: Span) -> Location {
        Location {
            file: self.file.into(),
            line: span.line,
            column: span.column,
        }
    }

    fn note(&mut self, severity: Severity, span: Span, message: String, help: Option<String>) {
        let location = self.location(span);
        let problem = Diagnostic::at(severity, location, span.len, message);
        self.problems.push(problem.with_help(help));
    }

    /// Notes an error.
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.note(Severity::Error, span, message.into(), help);
    }

    /// Notes a warning.
    pub(super) fn warn(&mut self, span: Span, message: impl Into<String>) {
        self.note(Severity::Warning, span, message.into(), None);
    }

    /// A mapping with only `known` keys.
    pub(super) fn mapping<'v>(&mut self, node: &'v Node, known: &[&str]) -> Option<&'v Mapping> {
        let Value::Mapping(mapping) = &node.value else {
            self.expected("keys and values", node);
            return None;
        };
        for entry in mapping.iter() {
            if !known.contains(&&*entry.key) {
                let full = self.problems.is_full();
                let near = || nearest(&entry.key, known.iter().copied());
                let help = if full { None } else { near() };
                self.error(
                    entry.key_span,
                    format!("unknown key `{}`", entry.key),
                    help.or_else(|| all_of(known)),
                );
            }
        }
        Some(mapping)
    }

    /// The entries of a list, which has at least one.
    pub(super) fn list<'v>(&mut self, node: &'v Node, what: &str) -> Option<&'v [Node]> {
        match &node.value {
            Value::List(entries) if entries.is_empty() => {
                self.error(
                    node.span,
                    format!("the list of {what} is empty"),
                    Some("leave the key out to match all".into()),
                );
                None
            }
            Value::List(entries) => Some(entries),
            Value::Number(_) | Value::String(_) => {
                let text = node.scalar_text().unwrap_or_default();
                self.error(
                    node.span,
                    format!("expected a list of {what}, found {}", node.value.kind()),
                    Some(format!("write `[{text}]`")),
                );
                None
            }
            _ => {
                self.expected(&format!("a list of {what}"), node);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Word>(&mut self, node: &Node, words: &[T]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|word| word.as_str()).collect();
        let Some(text) = node.as_str() else {
            self.expected(&either(&names), node);
            return None;
        };
        if let Some(word) = words.iter().find(|word| word.as_str() == text) {
            return Some(*word);
        }
        let help = nearest(text, names.iter().copied());
        self.error(
            node.span,
            format!("expected {}, found `{text}`", either(&names)),
            help,
        );
        None
    }

    /// A text.
    pub(super) fn text<'v>(&mut self, node: &'v Node, what: &str) -> Option<&'v str> {
        let text = node.as_str();
        if text.is_none() {
            self.expected(what, node);
        }
        text
    }

    /// Notes a value of the wrong kind.
    pub(super) fn expected(&mut self, what: &str, found: &Node) {
        let message = format!("expected {what}, found {}", found.value.kind());
        self.error(found.span, message, None);
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
