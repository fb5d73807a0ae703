//! Settings that several files give: one value of each, and a warning where a later file weakens an earlier one.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::file::{File, Setting};
use super::model::{Location, Log, Mode, Policy, Scope};
use super::ranges::merged;
use super::word::Word;
use portguard_common::Verdict;
use std::ops::RangeInclusive;

/// The settings of all files that hold on the host, in the order in which the files are read.
#[derive(Default)]
pub(super) struct Settings {
    mode: Vec<Setting<Mode>>,
    default: Vec<Setting<Verdict>>,
    protect: Vec<Setting<Vec<RangeInclusive<u16>>>>,
    scope: Vec<Setting<Scope>>,
    log: Vec<Setting<Log>>,
}

impl Settings {
    /// Takes the settings of a file.
    pub(super) fn take(&mut self, file: &mut File) {
        self.mode.extend(file.mode.take());
        self.default.extend(file.default.take());
        self.protect.extend(file.protect.take());
        self.scope.extend(file.scope.take());
        self.log.extend(file.log.take());
    }

    /// Sets what the files say: all ports of their `protect`, and of the others the last value.
    pub(super) fn apply(self, policy: &mut Policy, problems: &mut Diagnostics) {
        let locations = &mut policy.setting_locations;
        let found = [
            last(self.mode, "mode", &mut policy.mode, &mut locations.mode),
            last(
                self.default,
                "default",
                &mut policy.default,
                &mut locations.default,
            ),
            last(self.scope, "scope", &mut policy.scope, &mut locations.scope),
            last(self.log, "log", &mut policy.log, &mut locations.log),
        ];
        for warning in found.into_iter().flatten() {
            problems.push(warning);
        }
        match self.protect.as_slice() {
            [] => {}
            [one] => policy.protect.clone_from(&one.value),
            several => {
                let all: Vec<_> = several.iter().flat_map(|list| list.value.clone()).collect();
                policy.protect = merged(&all);
            }
        }
        let lists = self.protect.into_iter();
        locations.protect = lists.map(|list| (list.location, list.value)).collect();
    }
}

/// Sets the last value that was given, and warns where an earlier one is stricter.
fn last<T: Word + Strict>(
    mut given: Vec<Setting<T>>,
    key: &str,
    value: &mut T,
    location: &mut Option<Location>,
) -> Option<Diagnostic> {
    let last = given.pop()?;
    *value = last.value;
    *location = Some(last.location.clone());
    let mut earlier = given.iter().rev();
    let stricter = earlier.find(|earlier| earlier.value.strictness() > last.value.strictness())?;
    let (word, before) = (last.value.as_str(), stricter.value.as_str());
    let message = format!(
        "`{key}: {word}` weakens `{key}: {before}` at {}",
        stricter.location
    );
    let help = "the last file wins; remove one of the two";
    let warning = Diagnostic::at(Severity::Warning, last.location, word.len(), message);
    Some(warning.with_help(Some(help)))
}

/// How much of what happens is denied, decided or reported.
trait Strict {
    /// The larger, the more.
    fn strictness(&self) -> u8;
}

impl Strict for Mode {
    fn strictness(&self) -> u8 {
        match self {
            Self::Audit => 0,
            Self::Enforce => 1,
        }
    }
}

impl Strict for Verdict {
    fn strictness(&self) -> u8 {
        match self {
            Self::Allow | Self::Kernel => 0,
            Self::Deny => 1,
        }
    }
}

impl Strict for Scope {
    fn strictness(&self) -> u8 {
        match self {
            Self::Host => 0,
            Self::All => 1,
        }
    }
}

impl Strict for Log {
    fn strictness(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Deny => 1,
            Self::All => 2,
        }
    }
}
