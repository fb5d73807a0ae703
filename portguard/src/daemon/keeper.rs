//! Looks after the hooks: what is gone is said, counted and put back.

use crate::kernel::{Enforcer, Environment};
use crate::say::say;

/// What was found at the last look.
#[derive(Default)]
pub(super) struct Keeper {
    /// What is wrong now, in words.
    pub(super) problems: Vec<String>,
    /// Times that hooks were put back.
    pub(super) reattached: u64,
}

impl Keeper {
    /// Looks, and mends.
    pub(super) fn look(&mut self, enforcer: &mut Enforcer, environment: &Environment) {
        let troubles = troubles(enforcer);
        if troubles.is_empty() {
            if !self.problems.is_empty() {
                say!("portguard: the hooks are all right again");
            }
            self.problems.clear();
            return;
        }
        // Said once, not at each look.
        let known = troubles == self.problems;
        if !known {
            for trouble in &troubles {
                say!("portguard: NOT ENFORCING as it should: {trouble}");
            }
        }
        self.problems = troubles;
        match enforcer.mend(environment) {
            Ok(()) => {
                self.reattached += 1;
                self.problems = self::troubles(enforcer);
                if self.problems.is_empty() {
                    say!("portguard: the hooks are back in place");
                }
            }
            Err(error) if !known => {
                say!("portguard: cannot put the hooks back, trying again: {error}");
            }
            Err(_) => {}
        }
    }
}

fn troubles(enforcer: &Enforcer) -> Vec<String> {
    enforcer
        .troubles()
        .unwrap_or_else(|error| vec![error.to_string()])
}
