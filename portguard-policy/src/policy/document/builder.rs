//! Parser events -> tree: adds nodes to the open collections, within budgets.

use super::{Document, Entry, Mapping, Node, Span, Value, YamlError, scalar};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use std::collections::HashMap;
use std::rc::Rc;

/// Levels of nesting, aliases expanded; a policy has five.
const MAX_DEPTH: usize = 32;
const TOO_DEEP: &str = "values are nested more than 32 levels deep";
/// Nodes of a file, aliases expanded: 4,096 rules and 65,536 users have a fifth of it.
pub(super) const MAX_NODES: usize = 1 << 20;
/// Bytes of all scalars, aliases expanded: no file has more without aliases.
const MAX_TEXT: usize = 16 << 20;

/// What a value counts in the budgets.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
}

/// A value that has an anchor.
struct Anchored {
    node: Node,
    size: Size,
    /// Levels of collections in it.
    height: usize,
}

/// A mapping or sequence that is being read.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
    /// The size of the file before it.
    before: Size,
    /// The most levels of collections below it.
    height: usize,
}

enum Content {
    List(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        /// The lines of the keys.
        lines: HashMap<Rc<str>, usize>,
        /// The key whose value comes next; `None` in it for a duplicate, whose value is dropped.
        key: Option<Option<(Rc<str>, Span)>>,
    },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    size: Size,
    documents: usize,
    root: Option<Node>,
    errors: Vec<YamlError>,
}

/// An error that ends the reading.
struct Fatal(YamlError);

/// Parses a text without control characters.
pub(super) fn build(text: &str) -> Document {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let taken = match event {
            Ok((event, span)) => builder.event(event, span_of(&span)),
            Err(error) => Err(syntax(&error)),
        };
        if let Err(Fatal(error)) = taken {
            builder.errors.push(error);
            return Document {
                root: None,
                errors: builder.errors,
            };
        }
    }
    let empty = || Node {
        span: Span::START,
        value: Value::Null,
    };
    Document {
        root: Some(builder.root.unwrap_or_else(empty)),
        errors: builder.errors,
    }
}

fn syntax(error: &ScanError) -> Fatal {
    let span = Span {
        line: error.marker().line(),
        column: error.marker().col() + 1,
        len: 1,
    };
    // The parser reads ahead of its events, and has a limit of its own.
    if error.info().contains("recursion limit") {
        return fatal(span, TOO_DEEP);
    }
    fatal(span, format!("invalid YAML: {}", error.info()))
}

fn fatal(span: Span, message: impl Into<String>) -> Fatal {
    let message = message.into();
    Fatal(YamlError { span, message })
}

fn span_of(span: &saphyr_parser::Span) -> Span {
    let one_line = span.start.line() == span.end.line();
    Span {
        line: span.start.line(),
        column: span.start.col() + 1,
        len: if one_line {
            span.end.col().saturating_sub(span.start.col())
        } else {
            1
        },
    }
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fatal> {
        match event {
            Event::DocumentStart(_) => self.document(span),
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.is_some(), span);
                self.scalar(&text, style, anchor, span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.is_some(), span);
                self.start(Content::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.is_some(), span);
                let content = Content::Mapping {
                    entries: Vec::new(),
                    lines: HashMap::new(),
                    key: None,
                };
                self.start(content, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.end();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        let message = message.into();
        self.errors.push(YamlError { span, message });
    }

    fn document(&mut self, span: Span) -> Result<(), Fatal> {
        self.documents += 1;
        if self.documents > 1 {
            let message = "a policy file must be a single YAML document";
            return Err(fatal(span, message));
        }
        Ok(())
    }

    fn tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            self.error(span, "YAML tags are not supported");
        }
    }

    fn grow(&mut self, by: Size, span: Span) -> Result<(), Fatal> {
        self.size.nodes = self.size.nodes.saturating_add(by.nodes);
        self.size.text = self.size.text.saturating_add(by.text);
        if self.size.nodes > MAX_NODES {
            let message =
                format!("the file has more than {MAX_NODES} values after expanding aliases");
            return Err(fatal(span, message));
        }
        if self.size.text > MAX_TEXT {
            let limit = MAX_TEXT >> 20;
            let message =
                format!("the file has more than {limit} MiB of text after expanding aliases");
            return Err(fatal(span, message));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        span: Span,
    ) -> Result<(), Fatal> {
        let size = Size {
            nodes: 1,
            text: text.len(),
        };
        self.grow(size, span)?;
        let value = match style {
            ScalarStyle::Plain => scalar::plain(text),
            _ => Value::String(text.into()),
        };
        let node = Node { span, value };
        self.anchor(anchor, &node, size, 0);
        if self.expects_key() {
            self.key(text, span);
        } else {
            self.put(node, 0);
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fatal> {
        self.check_is_value(span)?;
        let Some(anchored) = self.anchors.get(&anchor) else {
            let message = "alias refers to the value that contains it";
            return Err(fatal(span, message));
        };
        let (size, height) = (anchored.size, anchored.height);
        if self.open.len() + height > MAX_DEPTH {
            return Err(fatal(span, TOO_DEEP));
        }
        self.grow(size, span)?;
        if let Some(anchored) = self.anchors.get(&anchor) {
            self.put(anchored.node.at(span), height);
        }
        Ok(())
    }

    fn start(&mut self, content: Content, anchor: usize, span: Span) -> Result<(), Fatal> {
        if self.open.len() >= MAX_DEPTH {
            return Err(fatal(span, TOO_DEEP));
        }
        let before = self.size;
        self.grow(Size { nodes: 1, text: 0 }, span)?;
        self.check_is_value(span)?;
        self.open.push(Open {
            span,
            anchor,
            content,
            before,
            height: 0,
        });
        Ok(())
    }

    fn end(&mut self) {
        let Some(closed) = self.open.pop() else {
            return;
        };
        let value = match closed.content {
            Content::List(entries) => Value::List(Rc::new(entries)),
            Content::Mapping { entries, .. } => Value::Mapping(Rc::new(Mapping(entries))),
        };
        let node = Node {
            span: closed.span,
            value,
        };
        let size = Size {
            nodes: self.size.nodes - closed.before.nodes,
            text: self.size.text - closed.before.text,
        };
        let height = closed.height + 1;
        self.anchor(closed.anchor, &node, size, height);
        self.put(node, height);
    }

    /// Keeps a value that has an anchor, whose number is not 0, for its aliases.
    fn anchor(&mut self, anchor: usize, node: &Node, size: Size, height: usize) {
        if anchor > 0 {
            let node = node.clone();
            self.anchors.insert(anchor, Anchored { node, size, height });
        }
    }

    fn expects_key(&self) -> bool {
        let content = self.open.last().map(|open| &open.content);
        matches!(content, Some(Content::Mapping { key: None, .. }))
    }

    fn check_is_value(&self, span: Span) -> Result<(), Fatal> {
        if self.expects_key() {
            return Err(fatal(span, "mapping keys must be strings"));
        }
        Ok(())
    }

    fn key(&mut self, text: &str, span: Span) {
        let Some(Open {
            content: Content::Mapping { lines, key, .. },
            ..
        }) = self.open.last_mut()
        else {
            return;
        };
        if let Some(first) = lines.get(text) {
            let message = format!("duplicate key `{text}`, first defined on line {first}");
            *key = Some(None);
            self.error(span, message);
        } else {
            let text: Rc<str> = text.into();
            lines.insert(text.clone(), span.line);
            *key = Some(Some((text, span)));
        }
    }

    /// Puts a value into the collection that is open.
    fn put(&mut self, node: Node, height: usize) {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        parent.height = parent.height.max(height);
        match &mut parent.content {
            Content::List(entries) => entries.push(node),
            Content::Mapping { entries, key, .. } => {
                if let Some((key, key_span)) = key.take().flatten() {
                    entries.push(Entry {
                        key,
                        key_span,
                        value: node,
                    });
                }
            }
        }
    }
}
