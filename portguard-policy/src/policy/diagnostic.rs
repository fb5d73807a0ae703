//! Errors and warnings about a policy: each with its location, its line and a caret.

use super::document::Span;
use super::model::Location;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Whether a policy can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used, but probably does not mean what its author intends.
    Warning,
}

/// One problem.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// What is wrong: one line, lower case, no full stop.
    pub message: String,
    /// How to fix it, shown beside the caret.
    pub help: Option<String>,
    /// Characters to underline.
    len: usize,
    /// Whether its line is shown.
    quoted: bool,
    /// The part of the line around it, printable, and the bytes to underline there.
    shown: Option<(String, Range<usize>)>,
}

/// All problems of a policy, in the order of their locations.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    /// How many there are of each severity, those not kept included.
    errors: usize,
    warnings: usize,
}

/// How many of each severity are kept and shown: more would not be read.
const KEPT: usize = 100;

/// The longest part of a line that is shown.
const SHOWN: usize = 160;

/// The longest message and the longest help, in bytes.
const MAX_MESSAGE: usize = 512;

impl Diagnostic {
    /// A problem of a file as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self::unquoted(file, Span::START, message)
    }

    /// An error whose line is not shown.
    pub(super) fn unquoted(file: &Path, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            location: Location {
                file: file.into(),
                line: span.line,
                column: span.column,
            },
            message: message.into(),
            help: None,
            len: 0,
            quoted: false,
            shown: None,
        }
    }

    /// A problem at a location; [`Diagnostics::quote`] adds its line.
    pub(crate) fn at(
        severity: Severity,
        location: Location,
        len: usize,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            location,
            message: cut(message.into()),
            help: None,
            len,
            quoted: true,
            shown: None,
        }
    }

    /// Adds how to fix it; too long a text is left out.
    #[must_use]
    pub(crate) fn with_help(mut self, help: Option<impl Into<String>>) -> Self {
        let help = help.map(Into::into);
        self.help = help.filter(|help| help.len() <= MAX_MESSAGE);
        self
    }

    fn render(&self, color: bool) -> String {
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let head = format!("{}: {warning}{}\n", self.location, printable(&self.message));
        let Some((shown, span)) = self.shown.clone() else {
            return head;
        };
        let mut mark = AnnotationKind::Primary.span(span);
        if let Some(help) = &self.help {
            mark = mark.label(printable(help));
        }
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let snippet = Snippet::source(shown)
            .line_start(self.location.line)
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
    fn excerpt(&self, line: &str) -> (String, Range<usize>) {
        let at = self.location.column.saturating_sub(1);
        let skip = at.saturating_sub(SHOWN / 2);
        let mut shown = String::new();
        let (mut start, mut end) = (None, 0);
        for (i, character) in line.chars().enumerate().skip(skip).take(SHOWN) {
            if i == at {
                start = Some(shown.len());
            }
            match character {
                // Shown as it is in the file: it escapes nothing here.
                '\\' => shown.push(character),
                _ => shown.push_str(&printable(character.encode_utf8(&mut [0; 4]))),
            }
            if i < at + self.len.max(1) {
                end = shown.len();
            }
        }
        let start = start.unwrap_or(shown.len());
        (shown, start..end.max(start))
    }
}

/// A message quotes what a file says, which may be megabytes.
fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("...");
    }
    message
}

/// A message may quote what a file says: no control character of it may reach a terminal.
fn printable(text: &str) -> String {
    crate::escape::escape(text.as_bytes())
}

impl Diagnostics {
    pub(super) fn push(&mut self, problem: Diagnostic) {
        let count = match problem.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= KEPT {
            self.kept.push(problem);
        }
    }

    /// Whether further errors will not be shown, so that finding help for them is wasted.
    pub(super) const fn is_full(&self) -> bool {
        self.errors >= KEPT
    }

    /// The same for warnings.
    pub(super) const fn has_all_warnings(&self) -> bool {
        self.warnings >= KEPT
    }

    pub(super) fn append(&mut self, other: Self) {
        let (errors, warnings) = (self.errors + other.errors, self.warnings + other.warnings);
        for problem in other.kept {
            self.push(problem);
        }
        (self.errors, self.warnings) = (errors, warnings);
    }

    pub(super) fn sort(&mut self) {
        self.kept
            .sort_by_key(|problem| (problem.location.line, problem.location.column));
    }

    /// Takes what these files say out of their problems, and leaves where they are. Nothing of them is to be quoted then.
    pub(super) fn withhold(&mut self, files: &HashSet<PathBuf>) {
        let kept = self.kept.iter_mut();
        for problem in
            kept.filter(|problem| problem.quoted && files.contains(&problem.location.file))
        {
            problem.message =
                "a problem whose text is not shown, since a symbolic link leads to this file from another directory: \
                 see `portguard check`"
                    .to_owned();
            problem.help = None;
            problem.quoted = false;
        }
    }

    /// Adds to the problems of `file` their lines of its text, in one pass.
    pub(super) fn quote(&mut self, file: &Path, text: &str) {
        let mut wanted: Vec<&mut Diagnostic> = self
            .kept
            .iter_mut()
            .filter(|problem| problem.quoted && problem.location.file == file)
            .collect();
        wanted.sort_by_key(|problem| problem.location.line);
        let mut lines = lines(text).zip(1..).peekable();
        for problem in wanted {
            while lines.next_if(|(_, i)| *i < problem.location.line).is_some() {}
            if let Some((line, i)) = lines.peek()
                && *i == problem.location.line
            {
                problem.shown = Some(problem.excerpt(line));
            }
        }
    }

    /// Whether any is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many there are of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        match severity {
            Severity::Error => self.errors,
            Severity::Warning => self.warnings,
        }
    }

    /// Every problem that is kept: the first hundred errors and the first hundred warnings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.kept.iter()
    }

    /// All problems as text, each beginning `FILE:LINE:COL: `.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let mut text: String = self.iter().map(|problem| problem.render(color)).collect();
        let more = self.errors + self.warnings - self.kept.len();
        if more > 0 {
            text.push_str(&format!("and {more} more problems not shown\n"));
        }
        text
    }
}

/// The lines of a text, which YAML ends by CR, LF or both.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line).split('\r')
    })
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = crate::escape::escape(self.file.as_os_str().as_encoded_bytes());
        write!(f, "{file}:{}:{}", self.line, self.column)
    }
}
