//! Reads values of the tree: every helper either returns the value or records a problem.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::document::{Mapping, Node, Span, Value};
use super::hints;
use super::model::{GivenNames, Location, UnknownName};
use super::name_service::NameService;
use super::word::Word;
use std::path::Path;

/// The state of reading one file.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    pub(super) names: &'a dyn NameService,
    /// Names of users to suggest, read when one is unknown.
    pub(super) known_users: Option<Vec<String>>,
    /// The same for groups.
    pub(super) known_groups: Option<Vec<String>>,
    /// Names of the file, resolved.
    pub(super) given: GivenNames,
    /// Names in rules that the host does not have.
    pub(super) unknown: Vec<UnknownName>,
    /// An entry of `tests:` is read.
    pub(super) in_test: bool,
    pub(super) problems: Diagnostics,
}

impl Reader<'_> {
    /// The location of a span.
    pub(super) fn location(&self, span: Span) -> Location {
        Location {
            file: self.file.into(),
            line: span.line,
            column: span.column,
        }
    }

    fn push(&mut self, severity: Severity, span: Span, message: String, help: Option<String>) {
        let location = self.location(span);
        let problem = Diagnostic::at(severity, location, span.len, message);
        self.problems.push(problem.with_help(help));
    }

    /// Records an error.
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.push(Severity::Error, span, message.into(), help);
    }

    /// Records a warning.
    pub(super) fn warn(&mut self, span: Span, message: impl Into<String>) {
        self.push(Severity::Warning, span, message.into(), None);
    }

    /// Records a warning that says what to do.
    pub(super) fn warn_with_help(&mut self, span: Span, message: String, help: Option<String>) {
        self.push(Severity::Warning, span, message, help);
    }

    /// A mapping; keys other than `known` are errors.
    pub(super) fn mapping<'v>(&mut self, node: &'v Node, known: &[&str]) -> Option<&'v Mapping> {
        let Value::Mapping(mapping) = &node.value else {
            self.expected("a mapping", node);
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

    /// The entries of a list; an empty one is an error.
    pub(super) fn list<'v>(&mut self, node: &'v Node, key: &str, what: &str) -> Option<&'v [Node]> {
        match &node.value {
            Value::List(entries) if entries.is_empty() => {
                self.error(
                    node.span,
                    format!("empty list of {what}"),
                    Some("list at least one, or omit the key".into()),
                );
                None
            }
            Value::List(entries) => Some(entries),
            Value::Number(_) | Value::String(_) => {
                let text = node.scalar_text().unwrap_or_default();
                self.error(
                    node.span,
                    format!("expected a list of {what}, found {}", node.value.kind()),
                    Some(hints::list_of(key, text)),
                );
                None
            }
            _ => {
                self.expected(&format!("a list of {what}"), node);
                None
            }
        }
    }

    /// One of these words.
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

    /// A string.
    pub(super) fn text<'v>(&mut self, node: &'v Node, what: &str) -> Option<&'v str> {
        let text = node.as_str();
        if text.is_none() {
            self.expected(what, node);
        }
        text
    }

    /// Records that a value has the wrong type.
    pub(super) fn expected(&mut self, what: &str, found: &Node) {
        let message = format!("expected {what}, found {}", found.value.kind());
        self.error(found.span, message, None);
    }
}

/// Bytes of a word that suggestions are made for.
const MAX_WORD: usize = 64;

/// `a`, `b` or `c`.
fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => quoted.concat(),
    }
}

fn all_of(words: &[&str]) -> Option<String> {
    Some(format!("expected one of: {}", words.join(", ")))
}

/// Suggests the nearest of `words`, where one is near enough.
pub(super) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    // Comparing takes time and memory by the length. Of `!x`, `x` is the contrary.
    if word.len() > MAX_WORD || hints::negated(word).is_some() {
        return None;
    }
    words
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, known)| {
            *distance <= (known.len() / 3).clamp(1, 3) && *distance < known.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| format!("did you mean `{known}`?"))
}
