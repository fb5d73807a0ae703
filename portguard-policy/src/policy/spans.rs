//! Where in a file each key and value stands, and what no YAML reader of values would tell.
//!
//! Values are read by serde_yaml, which has no places for them; this reads the same text for places
//! alone. On the way it refuses what a policy has no use for: duplicate keys, tags, several documents,
//! deep nesting, and aliases that expand without measure.

use saphyr_parser::{Event, Parser, Span};
use std::collections::HashMap;

/// Levels of nesting; a policy has five.
const MAX_DEPTH: usize = 32;
const TOO_DEEP: &str = "values are nested deeper than 32 levels";
/// Nodes of a file with its aliases written out: 4,096 rules and 65,536 users have a fifth of it.
const MAX_NODES: usize = 1 << 20;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// Characters on that line.
    pub(super) len: usize,
}

/// Something refused, and where.
pub(super) struct Refusal {
    pub(super) mark: Mark,
    pub(super) message: String,
    /// Whether the values of the file make no sense because of it.
    pub(super) fatal: bool,
}

/// Places by path: `/rules/3/ports/0`.
#[derive(Default)]
pub(super) struct Spans {
    keys: HashMap<String, Mark>,
    values: HashMap<String, Mark>,
}

impl Spans {
    /// Where the value at `path` stands; inside an alias, where the alias does.
    pub(super) fn value(&self, path: &str) -> Mark {
        self.nearest(&self.values, path)
    }

    /// Where the key of the value at `path` stands.
    pub(super) fn key(&self, path: &str) -> Mark {
        self.nearest(&self.keys, path)
    }

    fn nearest(&self, first: &HashMap<String, Mark>, path: &str) -> Mark {
        if let Some(mark) = first.get(path) {
            return *mark;
        }
        let mut path = path;
        loop {
            if let Some(mark) = self.values.get(path) {
                return *mark;
            }
            match path.rfind('/') {
                Some(end) => path = &path[..end],
                None => {
                    return Mark {
                        line: 1,
                        column: 1,
                        len: 0,
                    };
                }
            }
        }
    }
}

/// A mapping or sequence that is being read.
struct Open {
    path: String,
    kind: Kind,
    anchor: usize,
    nodes_before: usize,
}

enum Kind {
    Mapping { key: Option<String> },
    Sequence { next: usize },
}

struct Scan {
    marks: Spans,
    refusals: Vec<Refusal>,
    open: Vec<Open>,
    /// Nodes below each anchor, aliases in it written out.
    anchors: HashMap<usize, usize>,
    nodes: usize,
    documents: usize,
}

/// Reads the places of `text`, and all that is refused in it; what is fatal ends the reading.
pub(super) fn scan(text: &str) -> (Spans, Vec<Refusal>) {
    let mut scan = Scan {
        marks: Spans::default(),
        refusals: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        documents: 0,
    };
    if let Some((mark, character)) = control(text) {
        let number = u32::from(character);
        scan.refuse(
            mark,
            format!("the file has the control character U+{number:04X}, which YAML does not allow"),
        );
        return (scan.marks, scan.refusals);
    }
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if scan.event(&event, mark_of(&span)).is_none() {
                    break;
                }
            }
            Err(error) => {
                let at = error.marker();
                let mark = Mark {
                    line: at.line(),
                    column: at.col() + 1,
                    len: 1,
                };
                // The parser reads ahead of what it tells, and has a limit of its own.
                if error.info().contains("recursion limit") {
                    scan.refuse(mark, TOO_DEEP);
                } else {
                    scan.refuse(mark, format!("this is not YAML: {}", error.info()));
                }
                break;
            }
        }
    }
    (scan.marks, scan.refusals)
}

/// The first control character that YAML has no place for.
fn control(text: &str) -> Option<(Mark, char)> {
    let refused = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let (at, character) = text.char_indices().find(|(_, c)| refused(*c))?;
    let before = text.get(..at)?;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let mark = Mark {
        line: before.matches('\n').count() + 1,
        column: before.get(start..)?.chars().count() + 1,
        len: 1,
    };
    Some((mark, character))
}

fn mark_of(span: &Span) -> Mark {
    let one_line = span.start.line() == span.end.line();
    Mark {
        line: span.start.line(),
        column: span.start.col() + 1,
        len: if one_line {
            span.end.col().saturating_sub(span.start.col())
        } else {
            1
        },
    }
}

impl Scan {
    /// Refuses what makes all values of the file doubtful.
    fn refuse(&mut self, mark: Mark, message: impl Into<String>) {
        self.note(mark, message.into(), true);
    }

    fn note(&mut self, mark: Mark, message: String, fatal: bool) {
        self.refusals.push(Refusal {
            mark,
            message,
            fatal,
        });
    }

    /// Takes one event; `None` where reading on makes no sense.
    fn event(&mut self, event: &Event<'_>, mark: Mark) -> Option<()> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.refuse(
                        mark,
                        "a policy file is one YAML document, this is a second one",
                    );
                    return None;
                }
            }
            Event::Scalar(text, _, anchor, tag) => {
                self.tag(tag.is_some(), mark);
                self.scalar(text, *anchor, mark)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.is_some(), mark);
                self.start(Kind::Sequence { next: 0 }, *anchor, mark)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.is_some(), mark);
                self.start(Kind::Mapping { key: None }, *anchor, mark)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                // An alias to itself has no count yet: it would have no end.
                let size = self.anchors.get(anchor).copied().unwrap_or(MAX_NODES + 1);
                self.grow(size, mark)?;
                self.place(mark)?;
            }
            _ => {}
        }
        Some(())
    }

    fn tag(&mut self, tagged: bool, mark: Mark) {
        if tagged {
            self.note(mark, "YAML tags have no meaning in a policy".into(), false);
        }
    }

    fn grow(&mut self, nodes: usize, mark: Mark) -> Option<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            self.refuse(
                mark,
                format!("the file has more than {MAX_NODES} values with its aliases written out"),
            );
            return None;
        }
        Some(())
    }

    fn scalar(&mut self, text: &str, anchor: usize, mark: Mark) -> Option<()> {
        self.grow(1, mark)?;
        if anchor > 0 {
            self.anchors.insert(anchor, 1);
        }
        if let Some(Open {
            path,
            kind: Kind::Mapping { key: key @ None },
            ..
        }) = self.open.last_mut()
        {
            let path = format!("{path}/{text}");
            // What stands below a key given twice has a place of its own: no path has a NUL.
            let again = format!("{text}\0{}:{}", mark.line, mark.column);
            let first = !self.marks.keys.contains_key(&path);
            *key = Some(if first { text.to_owned() } else { again });
            if let Some(first) = self.marks.keys.get(&path) {
                let message = format!(
                    "duplicate key `{text}`: the first is on line {}",
                    first.line
                );
                self.note(mark, message, false);
            } else {
                self.marks.keys.insert(path, mark);
            }
            return Some(());
        }
        self.place(mark).map(|_| ())
    }

    fn start(&mut self, kind: Kind, anchor: usize, mark: Mark) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            self.refuse(mark, TOO_DEEP);
            return None;
        }
        let nodes_before = self.nodes;
        self.grow(1, mark)?;
        let path = self.place(mark)?;
        self.open.push(Open {
            path,
            kind,
            anchor,
            nodes_before,
        });
        Some(())
    }

    fn end(&mut self) {
        if let Some(closed) = self.open.pop()
            && closed.anchor > 0
        {
            self.anchors
                .insert(closed.anchor, self.nodes - closed.nodes_before);
        }
    }

    /// Records the place of a value; returns its path.
    fn place(&mut self, mark: Mark) -> Option<String> {
        let path = match self.open.last_mut() {
            None => String::new(),
            Some(Open {
                path,
                kind: Kind::Sequence { next },
                ..
            }) => {
                *next += 1;
                format!("{path}/{}", *next - 1)
            }
            Some(Open {
                path,
                kind: Kind::Mapping { key },
                ..
            }) => match key.take() {
                Some(key) => format!("{path}/{key}"),
                None => {
                    self.refuse(mark, "a key must be a plain word");
                    return None;
                }
            },
        };
        self.marks.values.entry(path.clone()).or_insert(mark);
        Some(path)
    }
}
