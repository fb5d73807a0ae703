//! Users and groups: names, ids, and ranges of ids.

use super::ports::digits;
use super::reader::{Reader, nearest};
use serde_yaml::Value;
use std::ops::RangeInclusive;

/// `(uid_t)-1`, `(gid_t)-1`: to the kernel it means "no id".
const NO_ID: u64 = u32::MAX as u64;

/// Whose ids.
#[derive(Clone, Copy)]
enum Kind {
    User,
    Group,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

impl Reader<'_> {
    /// A user: a name, an id or a range of ids.
    pub(super) fn users(&mut self, value: &Value, path: &str) -> Option<RangeInclusive<u32>> {
        self.ids(value, path, Kind::User)
    }

    /// A group: a name, an id or a range of ids.
    pub(super) fn groups(&mut self, value: &Value, path: &str) -> Option<RangeInclusive<u32>> {
        self.ids(value, path, Kind::Group)
    }

    /// One user.
    pub(super) fn one_user(&mut self, value: &Value, path: &str) -> Option<u32> {
        self.one_id(value, path, Kind::User)
    }

    /// One group.
    pub(super) fn one_group(&mut self, value: &Value, path: &str) -> Option<u32> {
        self.one_id(value, path, Kind::Group)
    }

    fn one_id(&mut self, value: &Value, path: &str, kind: Kind) -> Option<u32> {
        let range = self.ids(value, path, kind)?;
        if range.start() != range.end() {
            let message = format!("expected one {}, found a range", kind.word());
            self.error(path, message, None);
            return None;
        }
        Some(*range.start())
    }

    fn ids(&mut self, value: &Value, path: &str, kind: Kind) -> Option<RangeInclusive<u32>> {
        let id = match value {
            Value::Number(number) => self.id(path, &number.to_string(), kind)?,
            Value::String(text) => match text.split_once('-') {
                Some((start, end)) if digits(start).is_some() && digits(end).is_some() => {
                    return self.range(path, start, end, kind);
                }
                _ if digits(text).is_some() => self.id(path, text, kind)?,
                _ => self.named(path, text, kind)?,
            },
            _ => {
                let what = format!(
                    "a {} name, an id or a range like \"1000-1999\"",
                    kind.word()
                );
                self.expected(path, &what, value);
                return None;
            }
        };
        Some(id..=id)
    }

    fn range(
        &mut self,
        path: &str,
        start: &str,
        end: &str,
        kind: Kind,
    ) -> Option<RangeInclusive<u32>> {
        let (start, end) = (self.id(path, start, kind)?, self.id(path, end, kind)?);
        if start > end {
            let word = kind.word();
            self.error(
                path,
                format!("{word} range {start}-{end} is empty: the start is above the end"),
                Some(format!("write \"{end}-{start}\"")),
            );
            return None;
        }
        Some(start..=end)
    }

    fn id(&mut self, path: &str, text: &str, kind: Kind) -> Option<u32> {
        match digits(text) {
            Some(id) if id < NO_ID => u32::try_from(id).ok(),
            _ => {
                let word = kind.word();
                let message = format!("{word} id {text} is out of range: ids are 0 to 4294967294");
                self.error(path, message, None);
                None
            }
        }
    }

    fn named(&mut self, path: &str, name: &str, kind: Kind) -> Option<u32> {
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
        // Neither read nor compared for each of thousands of unknown names.
        let help = if self.problems.is_full() {
            None
        } else {
            let known = match kind {
                Kind::User => self.known_users.get_or_insert_with(|| names.user_names()),
                Kind::Group => self.known_groups.get_or_insert_with(|| names.group_names()),
            };
            nearest(name, known.iter().map(String::as_str))
        };
        self.error(path, format!("unknown {} `{name}`", kind.word()), help);
        None
    }
}
