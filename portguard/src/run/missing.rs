//! What this host lacks for `run`, printed with the fixes.

use crate::kernel::{Condition, Environment, object, object_condition};
use crate::stderr::log_line;

/// Prints whether the eBPF programs are missing in this build, and the fix; true where they are.
pub(super) fn print_missing_object() -> bool {
    print_if_missing([&object_condition(&object())])
}

/// Prints what `run` lacks, and the fixes; true where anything is missing.
pub(super) fn print_missing(environment: &Environment) -> bool {
    print_if_missing(environment.missing())
}

fn print_if_missing<'a>(conditions: impl IntoIterator<Item = &'a Condition>) -> bool {
    let mut any = false;
    for condition in conditions
        .into_iter()
        .filter(|condition| condition.is_missing())
    {
        any = true;
        log_line!("portguard: {}: {}", condition.name, condition.found);
        if let Some(fix) = &condition.fix {
            log_line!("  fix: {fix}");
        }
    }
    any
}
