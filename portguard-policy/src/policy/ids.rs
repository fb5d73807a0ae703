//! Users and groups: names, ids, and ranges of ids.

use super::account_word::never_a_name;
use super::document::{Node, Span, Value};
use super::model::{AccountKind as Kind, UnknownName};
use super::ports::{digits, natural};
use super::reader::{Reader, nearest};
use std::ops::RangeInclusive;

/// `(uid_t)-1`, `(gid_t)-1`: to the kernel it means "no id".
const NO_ID: u64 = u32::MAX as u64;

impl Reader<'_> {
    /// A user: a name, an id or a range of ids.
    pub(super) fn users(&mut self, node: &Node) -> Option<RangeInclusive<u32>> {
        self.ids(node, Kind::User)
    }

    /// A group: a name, an id or a range of ids.
    pub(super) fn groups(&mut self, node: &Node) -> Option<RangeInclusive<u32>> {
        self.ids(node, Kind::Group)
    }

    /// One user.
    pub(super) fn one_user(&mut self, node: &Node) -> Option<u32> {
        self.one_id(node, Kind::User)
    }

    /// One group.
    pub(super) fn one_group(&mut self, node: &Node) -> Option<u32> {
        self.one_id(node, Kind::Group)
    }

    fn one_id(&mut self, node: &Node, kind: Kind) -> Option<u32> {
        let range = self.ids(node, kind)?;
        if range.start() != range.end() {
            let message = format!("expected a single {}, found a range", kind.word());
            self.error(node.span, message, None);
            return None;
        }
        Some(*range.start())
    }

    fn ids(&mut self, node: &Node, kind: Kind) -> Option<RangeInclusive<u32>> {
        let id = match &node.value {
            Value::Number(number) => self.id(node.span, &number.text, natural(number), kind)?,
            Value::String(text) => match text.split_once('-') {
                Some((start, end)) if digits(start).is_some() && digits(end).is_some() => {
                    return self.range(node.span, start, end, kind);
                }
                _ if digits(text).is_some() => self.id(node.span, text, digits(text), kind)?,
                _ => self.named(node.span, text, kind)?,
            },
            _ => {
                let what = format!(
                    "a {} name, an id or a range like \"1000-1999\"",
                    kind.word()
                );
                self.expected(&what, node);
                return None;
            }
        };
        Some(id..=id)
    }

    fn range(
        &mut self,
        span: Span,
        start: &str,
        end: &str,
        kind: Kind,
    ) -> Option<RangeInclusive<u32>> {
        let start = self.id(span, start, digits(start), kind)?;
        let end = self.id(span, end, digits(end), kind)?;
        if start > end {
            let word = kind.word();
            self.error(
                span,
                format!("invalid {word} range {start}-{end}: start > end"),
                Some(format!("did you mean \"{end}-{start}\"?")),
            );
            return None;
        }
        Some(start..=end)
    }

    fn id(&mut self, span: Span, text: &str, number: Option<u64>, kind: Kind) -> Option<u32> {
        match number {
            Some(id) if id < NO_ID => {
                self.warn_of_leading_zero(span, text, id);
                u32::try_from(id).ok()
            }
            _ => {
                let word = kind.word();
                let message = format!("{word} id {text} is out of range (0-4294967294)");
                self.error(span, message, None);
                None
            }
        }
    }

    fn named(&mut self, span: Span, name: &str, kind: Kind) -> Option<u32> {
        let names = self.names;
        let id = match kind {
            Kind::User => names.uid(name),
            Kind::Group => names.gid(name),
        };
        if let Some(id) = id {
            let given = match kind {
                Kind::User => &mut self.given.users,
                Kind::Group => &mut self.given.groups,
            };
            given.insert(id, name.to_owned());
            return Some(id);
        }
        if let Some(help) = never_a_name(name, kind) {
            let message = format!("`{name}` is not a {} name", kind.word());
            self.error(span, message, Some(help));
            return None;
        }
        self.unknown(span, name, kind);
        None
    }

    /// Records a name that the host does not have: nobody has it now, and somebody may later.
    fn unknown(&mut self, span: Span, name: &str, kind: Kind) {
        let names = self.names;
        // The known names are read once, and not compared for warnings that will not be shown.
        let help = if self.problems.has_all_warnings() {
            None
        } else {
            let known = match kind {
                Kind::User => self.known_users.get_or_insert_with(|| names.user_names()),
                Kind::Group => self.known_groups.get_or_insert_with(|| names.group_names()),
            };
            nearest(name, known.iter().map(String::as_str))
        };
        let effect = match self.in_test {
            true => "this test is not run",
            false => "this entry matches nobody",
        };
        let message = format!("unknown {} `{name}`: {effect}", kind.word());
        self.warn_with_help(span, message, help);
        let location = self.location(span);
        self.unknown.push(UnknownName {
            kind,
            name: name.to_owned(),
            rule: String::new(),
            location,
        });
    }
}
