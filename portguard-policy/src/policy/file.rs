//! One policy file: YAML text -> its part of a policy, with every problem in it.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::lenient_value::Loose;
use super::model::{GivenNames, Location, Log, Mode, PolicyTest, Rule, Scope};
use super::name_service::Names;
use super::reader::{Reader, scalar_text};
use super::spans::{self, Spans};
use portguard_common::Verdict;
use serde_yaml::{Mapping, Value};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;

/// Bytes of YAML that all files of a policy may have.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// The keys of a file.
pub const FILE_KEYS: [&str; 9] = [
    "version", "mode", "default", "protect", "scope", "log", "hosts", "rules", "tests",
];

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];
const DEFAULTS: [(&str, Verdict); 2] = [("kernel", Verdict::Kernel), ("deny", Verdict::Deny)];
const SCOPES: [(&str, Scope); 2] = [("host", Scope::Host), ("all", Scope::All)];
/// The words of `log`.
pub(super) const LOGS: [(&str, Log); 3] =
    [("all", Log::All), ("deny", Log::Deny), ("none", Log::None)];

/// What a file says. Settings that it does not name are `None`.
#[derive(Default)]
pub(super) struct File {
    pub(super) mode: Option<Setting<Mode>>,
    pub(super) default: Option<Setting<Verdict>>,
    pub(super) protect: Option<Setting<Vec<RangeInclusive<u16>>>>,
    pub(super) scope: Option<Setting<Scope>>,
    pub(super) log: Option<Setting<Log>>,
    /// Patterns of host names that the file is for; `None` for all hosts.
    pub(super) hosts: Option<Vec<String>>,
    pub(super) rules: Vec<Rule>,
    pub(super) tests: Vec<PolicyTest>,
    pub(super) given: GivenNames,
}

/// A setting, and where its value stands.
pub(super) struct Setting<T> {
    pub(super) value: T,
    pub(super) place: Location,
}

/// Reads a file's text.
pub(super) fn read(path: &Path, text: &str, names: &dyn Names) -> (File, Diagnostics) {
    let mut problems = Diagnostics::default();
    // YAML allows a byte order mark, and editors write it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (marks, refusals) = spans::scan(text);
    let fatal = refusals.iter().any(|refusal| refusal.fatal);
    for refusal in refusals {
        let mark = refusal.mark;
        let place = Location {
            file: path.into(),
            line: mark.line,
            column: mark.column,
        };
        problems.push(Diagnostic::at(
            Severity::Error,
            place,
            mark.len,
            refusal.message,
        ));
    }
    if fatal {
        return (File::default(), problems);
    }
    match serde_yaml::from_str::<Loose>(text) {
        Ok(Loose(value)) => read_value(path, &marks, names, &value, problems),
        Err(error) => {
            let at = error.location();
            let place = Location {
                file: path.into(),
                line: at.as_ref().map_or(1, serde_yaml::Location::line),
                column: at.as_ref().map_or(1, serde_yaml::Location::column),
            };
            problems.push(Diagnostic::at(
                Severity::Error,
                place,
                1,
                format!("this is not YAML: {error}"),
            ));
            (File::default(), problems)
        }
    }
}

fn read_value(
    path: &Path,
    marks: &Spans,
    names: &dyn Names,
    value: &Value,
    problems: Diagnostics,
) -> (File, Diagnostics) {
    let mut reader = Reader {
        file: path,
        marks,
        names,
        known_users: None,
        known_groups: None,
        given: GivenNames::default(),
        problems,
    };
    let mut file = reader.file(value).unwrap_or_default();
    file.given = reader.given;
    reader.problems.sort();
    (file, reader.problems)
}

impl Reader<'_> {
    fn file(&mut self, value: &Value) -> Option<File> {
        if value.is_null() {
            self.error(
                "",
                "the file is empty",
                Some("a policy begins with `version: 1`".into()),
            );
            return None;
        }
        let map = self.mapping(value, "", &FILE_KEYS)?;
        self.version(map.get("version"));
        let mut file = File {
            mode: self.setting(map, "mode", &MODES),
            default: self.setting(map, "default", &DEFAULTS),
            scope: self.setting(map, "scope", &SCOPES),
            log: self.setting(map, "log", &LOGS),
            ..File::default()
        };
        let protect = self.each(map, "", "protect", "ports", Self::ports);
        file.protect = protect.map(|value| Setting {
            value,
            place: self.place("/protect"),
        });
        file.hosts = self.each(map, "", "hosts", "host names", |reader, value, path| {
            reader.text(value, path, "a host name").map(str::to_owned)
        });
        if let Some(value) = map.get("rules") {
            file.rules = self.many(value, "/rules", "rules", Self::rule);
        }
        if let Some(value) = map.get("tests") {
            file.tests = self.many(value, "/tests", "tests", Self::expectation);
        }
        Some(file)
    }

    /// A setting that is one of a few words.
    fn setting<T: Copy>(
        &mut self,
        map: &Mapping,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<Setting<T>> {
        let path = format!("/{key}");
        let value = self.word(map.get(key)?, &path, words)?;
        let place = self.place(&path);
        Some(Setting { value, place })
    }

    fn version(&mut self, value: Option<&Value>) {
        match value {
            None => self.error(
                "",
                "`version` is missing",
                Some("begin with `version: 1`".into()),
            ),
            Some(value) if value.as_u64() == Some(1) => {}
            Some(value) => {
                let found = scalar_text(value).unwrap_or_else(|| "something else".into());
                let message =
                    format!("policy version {found} is unknown: this portguard reads version 1");
                self.error("/version", message, None);
            }
        }
    }

    /// The list under `key`, each entry read by `read`; `None` where the key is absent.
    pub(super) fn each<T>(
        &mut self,
        map: &Mapping,
        path: &str,
        key: &str,
        what: &str,
        read: impl Fn(&mut Self, &Value, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = map.get(key)?;
        let path = format!("{path}/{key}");
        let entries = self.list(value, &path, what)?;
        let mut good = Vec::with_capacity(entries.len());
        let mut seen = HashSet::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let at = format!("{path}/{i}");
            if !seen.insert(entry) {
                self.warn(&at, "this entry is in the list already");
            }
            good.extend(read(self, entry, &at));
        }
        Some(good)
    }

    /// A list that may be empty.
    fn many<T>(
        &mut self,
        value: &Value,
        path: &str,
        what: &str,
        read: impl Fn(&mut Self, &Value, &str) -> Option<T>,
    ) -> Vec<T> {
        let Value::Sequence(entries) = value else {
            self.expected(path, &format!("a list of {what}"), value);
            return Vec::new();
        };
        let mut good = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            good.extend(read(self, entry, &format!("{path}/{i}")));
        }
        good
    }
}
