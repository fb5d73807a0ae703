//! A condition that portguard needs, as `doctor` prints it.

/// What it means where a condition does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It holds.
    Good,
    /// `run` works, with restrictions.
    Warning,
    /// `run` cannot work.
    Missing,
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What is needed.
    pub name: &'static str,
    /// Whether it holds.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// One line that says how to fix it.
    pub fix: Option<String>,
}

impl Condition {
    /// Whether `run` cannot work because of it.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.severity == Severity::Missing
    }

    /// It with its fix, for an error.
    #[must_use]
    pub fn sentence(&self) -> String {
        let fix = self.fix.as_deref();
        let fix = fix.map_or_else(String::new, |fix| format!("; {fix}"));
        format!("{}: {}{fix}", self.name, self.found)
    }
}

pub(super) fn good(name: &'static str, found: impl Into<String>) -> Condition {
    Condition {
        name,
        severity: Severity::Good,
        found: found.into(),
        fix: None,
    }
}

pub(super) fn missing(name: &'static str, found: impl Into<String>, fix: &str) -> Condition {
    Condition {
        name,
        severity: Severity::Missing,
        found: found.into(),
        fix: Some(fix.into()),
    }
}
