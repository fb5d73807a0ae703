//! One policy file: YAML text -> its part of a policy, and all problems in it.

use super::diagnostic::Diagnostics;
use super::document::{self, Mapping, Node, Value};
use super::hints;
use super::hosts;
use super::model::{GivenNames, Location, Log, Mode, PolicyTest, Rule, Scope, UnknownName};
use super::name_service::{NameService, SymbolicNames};
use super::reader::Reader;
use super::word::Word;
use portguard_common::Verdict;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;

/// The most bytes that all files of a policy may have together.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// The keys of a file.
pub const FILE_KEYS: [&str; 9] = [
    "version", "mode", "default", "protect", "scope", "log", "hosts", "rules", "tests",
];

/// The contents of a file. Settings that it does not give are `None`.
#[derive(Default)]
pub(super) struct File {
    pub(super) mode: Option<Setting<Mode>>,
    pub(super) default: Option<Setting<Verdict>>,
    pub(super) protect: Option<Setting<Vec<RangeInclusive<u16>>>>,
    pub(super) scope: Option<Setting<Scope>>,
    pub(super) log: Option<Setting<Log>>,
    /// Where `hosts:` is.
    pub(super) hosts_location: Option<Location>,
    pub(super) rules: Vec<Rule>,
    pub(super) tests: Vec<PolicyTest>,
    pub(super) given: GivenNames,
    pub(super) unknown: Vec<UnknownName>,
    /// Whether `hosts:` has this host.
    pub(super) holds_here: bool,
}

/// A setting, and where its value is.
pub(super) struct Setting<T> {
    pub(super) value: T,
    pub(super) location: Location,
}

/// Reads the text of a file.
pub(super) fn read(path: &Path, text: &str, names: &dyn NameService) -> (File, Diagnostics) {
    // YAML allows a byte order mark, and editors write it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = document::parse(text);
    // Of a file for other hosts no name is looked up: this host need not have it.
    let elsewhere = SymbolicNames::new("");
    let mut reader = Reader {
        file: path,
        names,
        known_users: None,
        known_groups: None,
        given: GivenNames::default(),
        unknown: Vec::new(),
        in_test: false,
        problems: Diagnostics::default(),
    };
    for error in document.errors {
        reader.error(error.span, error.message, None);
    }
    let root = document.root.as_ref();
    let patterns = root.and_then(|root| reader.hosts(root));
    let holds_here = patterns.is_none_or(|patterns| {
        let hostname = names.hostname();
        let mut patterns = patterns.iter();
        patterns.any(|pattern| hosts::matches(pattern, &hostname))
    });
    if !holds_here {
        reader.names = &elsewhere;
    }
    let mut file = root.and_then(|root| reader.file(root)).unwrap_or_default();
    file.holds_here = holds_here;
    file.given = reader.given;
    file.unknown = reader.unknown;
    reader.problems.sort();
    (file, reader.problems)
}

impl Reader<'_> {
    /// Patterns of host names that the file is for; `None` for all hosts. Read first, since the names of users in the
    /// rest depend on it.
    fn hosts(&mut self, root: &Node) -> Option<Vec<String>> {
        let Value::Mapping(map) = &root.value else {
            return None;
        };
        self.each(map, "hosts", "host names", |reader, node| {
            reader.text(node, "a host name").map(str::to_owned)
        })
    }

    fn file(&mut self, root: &Node) -> Option<File> {
        if matches!(root.value, Value::Null) {
            let help = "begin with `version: 1`".into();
            self.error(root.span, "the file is empty", Some(help));
            return None;
        }
        let map = self.mapping(root, &FILE_KEYS)?;
        self.version(root, map);
        let mut file = File {
            mode: self.setting(map, "mode", &Mode::ALL),
            default: self.setting(map, "default", &[Verdict::Kernel, Verdict::Deny]),
            protect: self.protect(map),
            scope: self.setting(map, "scope", &Scope::ALL),
            log: self.setting(map, "log", &Log::ALL),
            ..File::default()
        };
        file.hosts_location = map.get("hosts").map(|node| self.location(node.span));
        if let Some(node) = map.get("rules") {
            file.rules = self.many(node, "rules", Self::rule);
        }
        if let Some(node) = map.get("tests") {
            file.tests = self.many(node, "tests", Self::test);
        }
        Some(file)
    }

    /// A setting whose value is one of these words.
    fn setting<T: Word>(&mut self, map: &Mapping, key: &str, words: &[T]) -> Option<Setting<T>> {
        let node = map.get(key)?;
        let value = self.word(node, words)?;
        let location = self.location(node.span);
        Some(Setting { value, location })
    }

    fn protect(&mut self, map: &Mapping) -> Option<Setting<Vec<RangeInclusive<u16>>>> {
        let value = self.each(map, "protect", "ports", Self::ports)?;
        let location = self.location(map.get("protect")?.span);
        Some(Setting { value, location })
    }

    fn version(&mut self, root: &Node, map: &Mapping) {
        let Some(node) = map.get("version") else {
            let help = "begin with `version: 1`".into();
            self.error(root.span, "missing key `version`", Some(help));
            return;
        };
        if let Value::Number(number) = &node.value
            && number.int == Some(1)
        {
            return;
        }
        match node.scalar_text() {
            Some("1") => {
                let help = "write `version: 1`, without quotes".into();
                self.error(
                    node.span,
                    "`version` is a string, expected the number 1",
                    Some(help),
                );
            }
            Some(found) => {
                let message = format!("unsupported policy version {found}, expected 1");
                self.error(node.span, message, None);
            }
            None => self.expected("version 1", node),
        }
    }

    /// The list under `key`, each entry read by `read`; `None` where the key is absent.
    pub(super) fn each<T>(
        &mut self,
        map: &Mapping,
        key: &str,
        what: &str,
        read: impl Fn(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let entries = self.list(map.get(key)?, key, what)?;
        let mut good = Vec::with_capacity(entries.len());
        let mut seen = HashSet::with_capacity(entries.len());
        for entry in entries {
            if let Some(problem) = entry.as_str().and_then(|text| hints::no_entry(key, text)) {
                self.error(entry.span, problem.0, Some(problem.1));
                continue;
            }
            let Some(value) = read(self, entry) else {
                continue;
            };
            if let Some(text) = entry.scalar_text()
                && !seen.insert(text)
            {
                self.warn(entry.span, "duplicate list entry");
            }
            good.push(value);
        }
        Some(good)
    }

    /// A list that may be empty.
    fn many<T>(
        &mut self,
        node: &Node,
        what: &str,
        read: impl Fn(&mut Self, &Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(entries) = node.as_list() else {
            self.expected(&format!("a list of {what}"), node);
            return Vec::new();
        };
        entries
            .iter()
            .filter_map(|entry| read(self, entry))
            .collect()
    }
}
