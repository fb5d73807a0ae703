//! YAML -> policy: reads policy files, reports every problem in them, merges them.

mod diagnostic;
pub mod document;
mod field;
mod file;
mod files;
mod forgery;
mod ids;
mod model;
mod name_service;
mod networks;
mod paths;
mod ports;
mod ranges;
mod reader;
mod rule;
mod unit_cgroup;
mod word;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use model::{
    CgroupPattern, Component, GivenNames, Location, Log, Mode, Policy, PolicyTest, Rule, Scope,
    SettingLocations, UnitPattern,
};
pub use name_service::{NameService, StaticNames, SystemNames};
pub use ranges::{merged, outside, text as ranges_text};

pub use field::Field;
pub use file::FILE_KEYS;
pub use files::is_policy_name;
pub use files::{Fingerprint, PolicyFiles};
pub use rule::{RULE_KEYS, TEST_KEYS};
pub use unit_cgroup::{unit_cgroup, unit_of};

use file::{File, Setting};
use portguard_common::MAX_RULES;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use wildmatch::WildMatch;

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
/// and merges them: rules are concatenated; of a setting, the last value applies.
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
    let (texts, problems) = sources.split();
    merge(&texts, names, problems)
}

/// As [`load`], with one text in place of the file `path`.
///
/// # Errors
/// As for [`load`].
pub fn parse(path: &Path, text: &str, names: &dyn NameService) -> Result<Loaded, Diagnostics> {
    merge(
        &[(path.to_owned(), text.to_owned())],
        names,
        Diagnostics::default(),
    )
}

fn merge(
    texts: &[(PathBuf, String)],
    names: &dyn NameService,
    mut problems: Diagnostics,
) -> Result<Loaded, Diagnostics> {
    let mut policy = Policy::default();
    // Files for other hosts count too: a fleet shares one policy, in which a name means one rule.
    let mut used = Used::default();
    let hostname = names.hostname();
    for (path, text) in texts {
        let (file, found) = file::read(path, text, names);
        problems.append(found);
        let here = file.hosts.as_ref().is_none_or(|hosts| {
            hosts
                .iter()
                .any(|pattern| WildMatch::new(pattern).matches(&hostname))
        });
        let rules = file.rules.iter();
        used.rules
            .extend(rules.map(|rule| (rule.name.clone(), rule.location.clone())));
        let tests = file.tests.iter();
        used.tests
            .extend(tests.filter_map(|test| Some((test.rule.clone()?, test.location.clone()))));
        if here {
            add(&mut policy, file);
        }
    }
    check_names(&used, &mut problems);
    check_limits(&policy, texts, &mut problems);
    for (path, text) in texts {
        problems.quote(path, text.strip_prefix('\u{feff}').unwrap_or(text));
    }
    if problems.has_errors() {
        return Err(problems);
    }
    Ok(Loaded {
        policy,
        warnings: problems,
        texts: texts.to_vec(),
    })
}

/// Names of rules: where they are defined, and where tests refer to them.
#[derive(Default)]
struct Used {
    rules: Vec<(String, Location)>,
    tests: Vec<(String, Location)>,
}

fn add(policy: &mut Policy, file: File) {
    let locations = &mut policy.setting_locations;
    set(&mut policy.mode, &mut locations.mode, file.mode);
    set(&mut policy.default, &mut locations.default, file.default);
    set(&mut policy.protect, &mut locations.protect, file.protect);
    set(&mut policy.scope, &mut locations.scope, file.scope);
    set(&mut policy.log, &mut locations.log, file.log);
    policy.given.users.extend(file.given.users);
    policy.given.groups.extend(file.given.groups);
    policy.rules.extend(file.rules);
    policy.tests.extend(file.tests);
}

/// Of a setting that several files give, the last value applies.
fn set<T>(value: &mut T, location: &mut Option<Location>, given: Option<Setting<T>>) {
    if let Some(given) = given {
        *value = given.value;
        *location = Some(given.location);
    }
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
