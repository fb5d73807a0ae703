//! The policy files of a directory.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Whether a file of this name in a directory belongs to its policy.
pub fn is_policy_name(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".")
        && Path::new(name)
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml")
}

/// The names of the policy files in a directory, in byte order.
pub(super) fn names(path: &Path) -> Result<Vec<OsString>, String> {
    let mut names = std::fs::read_dir(path)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(|error| format!("cannot list directory: {error}"))?;
    names.retain(|name| is_policy_name(name));
    names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok(names)
}
