//! YAML text -> a tree of values, each with its place in the text.
//!
//! The tree is built from the events of `saphyr-parser`, in one pass and by the YAML 1.2 core schema. No
//! ready-made tree fits: `saphyr::MarkedYaml` copies aliases without a bound and keeps the last of two equal
//! keys, `serde-saphyr` stops at the first error, and `serde_yaml` has no spans.
//!
//! Duplicate keys, tags, several documents, deep nesting and unbounded aliases are errors: a policy needs none of
//! them. Duplicate keys and tags do not hide the other errors of a file.

mod builder;
mod scalar;
mod text_checks;

use std::rc::Rc;

/// Part of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In characters.
    pub len: usize,
}

impl Span {
    /// The beginning of a file, for errors of the file as a whole.
    pub const START: Self = Self {
        line: 1,
        column: 1,
        len: 0,
    };

    /// The character after `before`, which is the beginning of a file.
    #[must_use]
    pub fn after(before: &str) -> Self {
        let breaks = before.matches('\n').count() + before.matches('\r').count()
            - before.matches("\r\n").count();
        let line = before
            .rfind(['\n', '\r'])
            .map_or(before, |end| &before[end + 1..]);
        Self {
            line: breaks + 1,
            column: line.chars().count() + 1,
            len: 1,
        }
    }
}

/// A value and its place. Everything below an alias has the alias's place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The place.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// A value. Strings are shared with the anchor that they were copied from.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number of any kind.
    Number(Number),
    /// A string.
    String(Rc<str>),
    /// A sequence.
    List(Rc<Vec<Node>>),
    /// A mapping.
    Mapping(Rc<Mapping>),
}

/// A number.
#[derive(Clone, Debug)]
pub struct Number {
    /// As written.
    pub text: Rc<str>,
    /// Its value, where it is an unsigned integer that fits.
    pub int: Option<u64>,
}

/// A mapping, in the order of the file. Of duplicate keys it has the first.
#[derive(Clone, Debug, Default)]
pub struct Mapping(Vec<Entry>);

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key as a text, whatever its type.
    pub key: Rc<str>,
    /// Where the key is.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// An error, and where it is.
#[derive(Clone, Debug)]
pub struct YamlError {
    /// The place.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

/// A parsed text.
#[derive(Debug)]
pub struct Document {
    /// The value; `None` where an error ended the parsing.
    pub root: Option<Node>,
    /// All errors.
    pub errors: Vec<YamlError>,
}

/// Parses one YAML document. A text without any is null.
#[must_use]
pub fn parse(text: &str) -> Document {
    match text_checks::check(text) {
        Some(error) => Document {
            root: None,
            errors: vec![error],
        },
        None => builder::build(text),
    }
}

impl Node {
    /// A scalar other than null as a text: strings without their quotes, numbers as written.
    #[must_use]
    pub fn scalar_text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(&number.text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Null | Value::List(_) | Value::Mapping(_) => None,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(entries) => Some(entries),
            _ => None,
        }
    }

    /// A copy for an alias at `span`.
    fn at(&self, span: Span) -> Self {
        let value = match &self.value {
            Value::List(entries) => Value::List(Rc::new(
                entries.iter().map(|entry| entry.at(span)).collect(),
            )),
            Value::Mapping(mapping) => Value::Mapping(Rc::new(mapping.at(span))),
            scalar => scalar.clone(),
        };
        Self { span, value }
    }
}

impl Value {
    /// The type of a value, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

impl Mapping {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.0.iter().find(|entry| &*entry.key == key);
        entry.map(|entry| &entry.value)
    }

    /// All entries.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    fn at(&self, span: Span) -> Self {
        let entry = |entry: &Entry| Entry {
            key: entry.key.clone(),
            key_span: span,
            value: entry.value.at(span),
        };
        Self(self.0.iter().map(entry).collect())
    }
}
