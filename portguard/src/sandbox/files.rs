//! Landlock: the files that a thread may write.
//!
//! Reading is not restricted: policies may link to any place, and modules of the name service read what they like. Only for
//! threads that look at no other process: to a thread that Landlock confines, the kernel shows `/proc/PID/exe`, `fd` and
//! `ns` of no process outside (`hook_ptrace_access_check` of `security/landlock`, 5.13 to 7.2).

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, make_bitflags, path_beneath_rules,
};
use std::path::PathBuf;

/// Writing, as far as a kernel restricts it, and executing. Truncating and ioctl of devices came later than the rest.
fn handled() -> BitFlags<AccessFs> {
    AccessFs::from_write(ABI::V5) | AccessFs::Execute
}

/// What is allowed in a directory: to make, write, rename and remove regular files.
fn allowed() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{WriteFile | MakeReg | RemoveFile | Truncate})
}

/// From now on this thread writes below `directories` only, and executes nothing. Where the kernel lacks a part of that, the
/// rest holds.
pub(super) fn write_only_below(directories: &[PathBuf]) -> Result<(), RulesetError> {
    let ruleset = Ruleset::default().handle_access(handled())?.create()?;
    let rules = path_beneath_rules(directories, allowed());
    ruleset.add_rules(rules)?.restrict_self()?;
    Ok(())
}

/// Whether the kernel has Landlock, and it is active.
pub(super) fn is_available() -> bool {
    let required = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = required.handle_access(AccessFs::WriteFile);
    ruleset.and_then(Ruleset::create).is_ok()
}
