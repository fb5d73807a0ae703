//! YAML -> policy: reads policy files, reports every problem in them, merges them.

mod account_word;
mod diagnostic;
mod directory;
pub mod document;
mod field;
mod file;
mod files;
mod forgery;
mod hints;
mod hosts;
mod ids;
mod layers;
mod model;
mod name_service;
mod names_file;
mod networks;
mod paths;
mod ports;
mod ranges;
mod reader;
mod rule;
mod settings;
mod trust;
mod word;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use model::{
    AccountKind, CgroupPattern, Component, GivenNames, Location, Log, Mode, Policy, PolicyTest,
    Rule, Scope, SettingLocations, UnitPattern, UnknownName,
};
pub use name_service::{NameService, StaticNames, SymbolicNames, SystemNames};
pub use names_file::NamesFileError;
pub(crate) use ranges::Number;
pub use ranges::{merged, outside, text as ranges_text};

pub use directory::is_policy_name;
pub use field::Field;
pub use file::FILE_KEYS;
pub use files::{Fingerprint, PolicyFiles};
pub use layers::DEFAULT_PATHS;
pub use rule::{RULE_KEYS, TEST_KEYS};
pub use trust::{check as check_trust, check_state};

use file::File;
use files::Texts;
use portguard_common::MAX_RULES;
use settings::Settings;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The most users (single ids and ranges) that a policy may name.
const MAX_USERS: usize = 65_536;

/// A policy and its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// Warnings.
    pub warnings: Diagnostics,
    /// The files and their texts, quoted in warnings.
    texts: Vec<(PathBuf, String)>,
}

impl Loaded {
    /// Adds a warning, with its line.
    pub(crate) fn add(&mut self, warning: Diagnostic) {
        let file = warning.location.file.clone();
        self.warnings.push(warning);
        if let Some((path, text)) = self.texts.iter().find(|(path, _)| *path == file) {
            self.warnings
                .quote(path, text.strip_prefix('\u{feff}').unwrap_or(text));
        }
    }
}

/// Reads files and directories (of a directory: its `*.yaml` and `*.yml`, in byte order of their names)
/// and merges them: rules are concatenated; `protect` lists are united; of another setting, the last value applies.
///
/// # Errors
/// All problems of all files, if one of them is an error.
pub fn load(paths: &[PathBuf], names: &dyn NameService) -> Result<Loaded, Diagnostics> {
    load_sources(PolicyFiles::read(paths), names)
}

/// As [`load`], with files that were read before.
///
/// # Errors
/// As for [`load`].
pub fn load_sources(sources: PolicyFiles, names: &dyn NameService) -> Result<Loaded, Diagnostics> {
    merge(sources.split(), names)
}

/// As [`load`], with one text in place of the file `path`.
///
/// # Errors
/// As for [`load`].
pub fn parse(path: &Path, text: &str, names: &dyn NameService) -> Result<Loaded, Diagnostics> {
    let texts = vec![(path.to_owned(), text.to_owned())];
    let sources = Texts {
        texts,
        ..Texts::default()
    };
    merge(sources, names)
}

fn merge(sources: Texts, names: &dyn NameService) -> Result<Loaded, Diagnostics> {
    let Texts {
        mut texts,
        private,
        mut problems,
    } = sources;
    let mut policy = Policy::default();
    policy.given.symbolic = names.is_symbolic();
    // Files for other hosts count too: a fleet shares one policy, in which a name means one rule.
    let mut used = Used::default();
    let hostname = names.hostname();
    let mut settings = Settings::default();
    // Where the last file says which hosts it is for, while none is for this one.
    let mut none_here = None;
    for (number, (path, text)) in texts.iter().enumerate() {
        let (mut file, found) = file::read(path, text, names);
        problems.append(found);
        let rules = file.rules.iter();
        used.rules
            .extend(rules.map(|rule| (rule.name.clone(), rule.location.clone())));
        let tests = file.tests.iter();
        used.tests
            .extend(tests.filter_map(|test| Some((test.rule.clone()?, test.location.clone()))));
        if file.holds_here {
            none_here = None;
            settings.take(&mut file);
            add(&mut policy, file);
        } else if number == 0 || none_here.is_some() {
            none_here = file.hosts_location;
        }
    }
    settings.apply(&mut policy, &mut problems);
    if let Some(location) = none_here.filter(|_| !problems.has_errors()) {
        problems.push(no_file_holds(location, &hostname));
    }
    check_names(&used, &mut problems);
    check_limits(&policy, &texts, &mut problems);
    problems.withhold(&private);
    texts.retain(|(path, _)| !private.contains(path));
    for (path, text) in &texts {
        problems.quote(path, text.strip_prefix('\u{feff}').unwrap_or(text));
    }
    if problems.has_errors() {
        return Err(problems);
    }
    Ok(Loaded {
        policy,
        warnings: problems,
        texts,
    })
}

/// Names of rules: where they are defined, and where tests refer to them.
#[derive(Default)]
struct Used {
    rules: Vec<(String, Location)>,
    tests: Vec<(String, Location)>,
}

fn add(policy: &mut Policy, file: File) {
    policy.given.users.extend(file.given.users);
    policy.given.groups.extend(file.given.groups);
    policy.unknown.extend(file.unknown);
    policy.rules.extend(file.rules);
    policy.tests.extend(file.tests);
}

fn no_file_holds(location: Location, hostname: &str) -> Diagnostic {
    let message = format!("no policy file holds on host `{hostname}`: no rule applies");
    Diagnostic::at(Severity::Warning, location, 1, message)
        .with_help(Some("every file names other hosts"))
}

fn check_names(used: &Used, problems: &mut Diagnostics) {
    let mut seen: HashMap<&str, &Location> = HashMap::new();
    for (name, location) in &used.rules {
        if let Some(first) = seen.get(name.as_str()) {
            let message = format!("duplicate rule name `{name}`, first used at {first}");
            problems.push(Diagnostic::at(
                Severity::Error,
                location.clone(),
                1,
                message,
            ));
        } else {
            seen.insert(name, location);
        }
    }
    for (name, location) in &used.tests {
        if !seen.contains_key(name.as_str()) {
            let help = if problems.is_full() {
                None
            } else {
                reader::nearest(name, seen.keys().copied())
            };
            let message = format!("unknown rule `{name}`");
            let problem = Diagnostic::at(Severity::Error, location.clone(), 1, message);
            problems.push(problem.with_help(help));
        }
    }
}

fn check_limits(policy: &Policy, texts: &[(PathBuf, String)], problems: &mut Diagnostics) {
    let Some((last, _)) = texts.last() else {
        return;
    };
    if policy.rules.len() > MAX_RULES {
        let message = format!(
            "the policy has {} rules, the limit is {MAX_RULES}",
            policy.rules.len()
        );
        problems.push(Diagnostic::of_file(last, message));
    }
    let users: BTreeSet<(u32, u32)> = policy
        .rules
        .iter()
        .flat_map(|rule| rule.users.iter().flatten())
        .map(|range| (*range.start(), *range.end()))
        .collect();
    if users.len() > MAX_USERS {
        let message = format!(
            "the policy names {} distinct users, the limit is {MAX_USERS}; use ranges",
            users.len()
        );
        problems.push(Diagnostic::of_file(last, message));
    }
}
