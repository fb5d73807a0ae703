//! Checks the hooks: a hook that is gone is logged, counted and re-attached.

use crate::kernel::{Enforcer, Environment, KernelError};
use crate::stderr::log_line;

/// The result of the last check.
#[derive(Default)]
pub(super) struct HealthMonitor {
    problems: Vec<String>,
    reattached: u64,
}

impl HealthMonitor {
    /// What is wrong now; empty where all is well.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// How many times hooks were re-attached.
    pub(super) const fn reattached(&self) -> u64 {
        self.reattached
    }

    /// Checks the hooks and repairs them. Returns whether the problems changed.
    pub(super) fn check(&mut self, enforcer: &mut Enforcer, environment: &Environment) -> bool {
        let before = std::mem::take(&mut self.problems);
        self.problems = match enforcer.problems() {
            Ok(problems) if problems.is_empty() => {
                if !before.is_empty() {
                    log_line!("portguard: hooks restored");
                }
                problems
            }
            Ok(problems) => self.repair(problems, &before, enforcer, environment),
            Err(error) => check_failed(&error, &before),
        };
        self.problems != before
    }

    /// Re-attaches the hooks. Returns the problems that are left; those of `before` are not logged again.
    fn repair(
        &mut self,
        problems: Vec<String>,
        before: &[String],
        enforcer: &mut Enforcer,
        environment: &Environment,
    ) -> Vec<String> {
        let known = problems == before;
        if !known {
            for problem in &problems {
                log_line!("portguard: enforcement degraded: {problem}");
            }
        }
        match enforcer.repair(environment) {
            Ok(()) => self.reattached += 1,
            Err(error) => {
                if !known {
                    log_line!("portguard: cannot re-attach the hooks, will retry: {error}");
                }
                return problems;
            }
        }
        match enforcer.problems() {
            Ok(left) => {
                if left.is_empty() {
                    log_line!("portguard: hooks re-attached");
                }
                left
            }
            Err(error) => check_failed(&error, before),
        }
    }
}

/// Nothing is known of the hooks. They may be in place, so nothing is re-attached: where descriptors are short
/// that would only take away what is there.
fn check_failed(error: &KernelError, before: &[String]) -> Vec<String> {
    let problem = format!("the hooks cannot be checked: {}", error.with_fix());
    if before != [problem.as_str()] {
        log_line!("portguard: {problem}; they stay as they are, will retry");
    }
    vec![problem]
}
