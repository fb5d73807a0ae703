//! What is wrong with a policy: each problem with its place, its line and a caret.

use super::model::Place;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::path::Path;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used, but hardly means what its author thinks.
    Warning,
}

/// One problem.
#[derive(Clone, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What is wrong: one line, lower case, no full stop.
    pub message: String,
    /// What to do, written behind the caret.
    pub help: Option<String>,
    /// Characters to underline.
    len: usize,
    /// The line of the file, where there is one.
    line: Option<String>,
}

/// All problems of a policy, in the order of their places.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

/// The longest part of a line that is shown.
const SHOWN: usize = 160;

impl Problem {
    /// A problem of a file as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: Place {
                file: file.into(),
                line: 1,
                column: 1,
            },
            message: message.into(),
            help: None,
            len: 0,
            line: None,
        }
    }

    /// A problem at a place in `text`, the whole file.
    pub(super) fn at(
        severity: Severity,
        place: Place,
        len: usize,
        text: &str,
        message: impl Into<String>,
    ) -> Self {
        let line = text.lines().nth(place.line.saturating_sub(1));
        Self {
            severity,
            line: line.map(str::to_owned),
            place,
            message: message.into(),
            help: None,
            len,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub(super) fn with_help(mut self, help: Option<impl Into<String>>) -> Self {
        self.help = help.map(Into::into);
        self
    }

    fn render(&self, color: bool) -> String {
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let head = format!("{}: {warning}{}\n", self.place, printable(&self.message));
        let Some(line) = &self.line else { return head };
        let (shown, span) = self.excerpt(line);
        let mut mark = AnnotationKind::Primary.span(span);
        if let Some(help) = &self.help {
            mark = mark.label(printable(help));
        }
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let snippet = Snippet::source(shown)
            .line_start(self.place.line)
            .annotation(mark);
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let body = renderer.render(&[Group::with_level(level).element(snippet)]);
        format!("{head}{body}\n")
    }

    /// The part of the line around the problem, printable, and the bytes to underline in it.
    fn excerpt(&self, line: &str) -> (String, std::ops::Range<usize>) {
        let at = self.place.column.saturating_sub(1);
        let skip = at.saturating_sub(SHOWN / 2);
        let mut shown = String::new();
        let (mut start, mut end) = (None, 0);
        for (i, character) in line.chars().enumerate().skip(skip).take(SHOWN) {
            if i == at {
                start = Some(shown.len());
            }
            shown.push(if character.is_control() {
                '\u{fffd}'
            } else {
                character
            });
            if i < at + self.len.max(1) {
                end = shown.len();
            }
        }
        let start = start.unwrap_or(shown.len());
        (shown, start..end.max(start))
    }
}

/// A message may quote what a file says: no control character of it may reach a terminal.
fn printable(text: &str) -> String {
    crate::escape::escape(text.as_bytes())
}

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(super) fn sort(&mut self) {
        self.0
            .sort_by_key(|problem| (problem.place.line, problem.place.column));
    }

    /// Whether any is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Problems of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// Every problem.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// All problems as text, each beginning `FILE:LINE:COL: `.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        self.iter().map(|problem| problem.render(color)).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = crate::escape::escape(self.file.as_os_str().as_encoded_bytes());
        write!(f, "{file}:{}:{}", self.line, self.column)
    }
}
