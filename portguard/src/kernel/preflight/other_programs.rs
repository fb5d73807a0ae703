//! Other programs on the bind hooks of the cgroup tree, which can also deny and grant binds.

use crate::kernel::bpf_sys;
use aya::programs::loaded_programs;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A bind hook of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindHook {
    /// Binds of IPv4 sockets.
    Bind4,
    /// Binds of IPv6 sockets.
    Bind6,
}

impl BindHook {
    /// Its name in messages, also the name of portguard's own program on it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bind4 => "bind4",
            Self::Bind6 => "bind6",
        }
    }
}

/// `BPF_CGROUP_INET4_BIND` and `BPF_CGROUP_INET6_BIND` of `include/uapi/linux/bpf.h` (Linux 5.10).
pub(in crate::kernel) const ATTACH_TYPES: [(u32, BindHook); 2] =
    [(8, BindHook::Bind4), (9, BindHook::Bind6)];

/// A program on a bind hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindProgram {
    /// Its cgroup, below the root of the tree.
    pub cgroup: String,
    /// The hook that it is on.
    pub hook: BindHook,
    /// Its id in the kernel.
    pub id: u32,
    /// Its name; empty where it has none.
    pub name: String,
}

/// Every program on the bind hooks of a tree, in the order of the tree. Cgroups that are removed meanwhile are left
/// out.
pub fn bind_programs(root: &Path) -> io::Result<Vec<BindProgram>> {
    let names: BTreeMap<u32, String> = loaded_programs()
        .filter_map(Result::ok)
        .map(|program| {
            let name = program.name_as_str().unwrap_or_default();
            (program.id(), name.to_owned())
        })
        .collect();
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let is_root = path == root;
        match programs_of(&path) {
            Ok(programs) => found.extend(programs.into_iter().map(|(hook, id)| BindProgram {
                cgroup: below(root, &path),
                hook,
                id,
                name: names.get(&id).cloned().unwrap_or_default(),
            })),
            Err(error) if is_root => return Err(error),
            Err(_) => {}
        }
        let children = std::fs::read_dir(&path).into_iter().flatten();
        open.extend(
            children
                .filter_map(Result::ok)
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    found.sort();
    Ok(found)
}

fn below(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    format!("/{}", path.display())
}

fn programs_of(path: &Path) -> io::Result<Vec<(BindHook, u32)>> {
    use std::os::fd::AsFd as _;
    let directory = std::fs::File::open(path)?;
    let mut found = Vec::new();
    for (attach_type, hook) in ATTACH_TYPES {
        let ids = bpf_sys::programs_on(directory.as_fd(), attach_type)?;
        found.extend(ids.into_iter().map(|id| (hook, id)));
    }
    Ok(found)
}
