//! Looks after the hooks: what is gone is said, counted and put back.

use crate::kernel::{Enforcer, Environment, KernelError};
use crate::stderr::log_line;

/// What was found at the last look.
#[derive(Default)]
pub(super) struct HealthMonitor {
    /// What is wrong now, in words.
    pub(super) problems: Vec<String>,
    /// Times that hooks were put back.
    pub(super) reattached: u64,
}

impl HealthMonitor {
    /// Looks, and mends.
    pub(super) fn check(&mut self, enforcer: &mut Enforcer, environment: &Environment) {
        let troubles = match enforcer.problems() {
            Ok(troubles) => troubles,
            Err(error) => return self.check_failed(&error),
        };
        if troubles.is_empty() {
            if !self.problems.is_empty() {
                log_line!("portguard: the hooks are all right again");
            }
            self.problems.clear();
            return;
        }
        // Said once, not at each look.
        let known = troubles == self.problems;
        if !known {
            for trouble in &troubles {
                log_line!("portguard: NOT ENFORCING as it should: {trouble}");
            }
        }
        self.problems = troubles;
        match enforcer.repair(environment) {
            Ok(()) => {
                self.reattached += 1;
                match enforcer.problems() {
                    Ok(left) => self.problems = left,
                    Err(error) => return self.check_failed(&error),
                }
                if self.problems.is_empty() {
                    log_line!("portguard: the hooks are back in place");
                }
            }
            Err(error) if !known => {
                log_line!("portguard: cannot put the hooks back, trying again: {error}");
            }
            Err(_) => {}
        }
    }

    /// Says that nothing is known of the hooks. They may be all right, so nothing is put back: where descriptors
    /// are short that would only take away what is there.
    fn check_failed(&mut self, error: &KernelError) {
        let problems = vec![format!("cannot look after the hooks: {}", error.with_fix())];
        if problems != self.problems {
            for problem in &problems {
                log_line!("portguard: {problem}; what was in force still is, trying again");
            }
        }
        self.problems = problems;
    }
}
