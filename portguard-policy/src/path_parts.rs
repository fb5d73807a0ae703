//! The components of a path, for walks that follow symbolic links one by one.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path};

/// Symbolic links that the kernel follows in one path (`MAXSYMLINKS`, `include/linux/namei.h`).
pub const MAX_LINKS: usize = 40;

/// A component of a path other than `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `/`.
    Root,
    /// `..`.
    Parent,
    /// A name.
    Name(OsString),
}

/// The components of a path, in order.
#[must_use]
pub fn parts(path: &Path) -> VecDeque<Part> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir => Some(Part::Root),
            Component::ParentDir => Some(Part::Parent),
            Component::Normal(name) => Some(Part::Name(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}
