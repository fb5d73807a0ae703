//! Programs that any user runs as root (setuid) or with `cap_net_bind_service` (file capabilities).

use super::listeners::Listener;
use super::root::{entries, on_host};
use super::survey::Survey;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Directories of programs, and how many levels to search.
const DIRECTORIES: [(&str, usize); 9] = [
    ("bin", 1),
    ("sbin", 1),
    ("usr/bin", 1),
    ("usr/sbin", 1),
    ("usr/local", 4),
    ("usr/lib", 4),
    ("usr/libexec", 4),
    ("opt", 6),
    ("srv", 6),
];

/// Number of `CAP_NET_BIND_SERVICE` (`include/uapi/linux/capability.h`).
const NET_BIND_SERVICE: u32 = 10;
/// `S_ISUID`.
const SETUID: u32 = 0o4000;

pub(super) fn inspect(root: &Path, listeners: &[Listener], survey: &mut Survey) {
    let mut found: Vec<PathBuf> = Vec::new();
    for (directory, depth) in DIRECTORIES {
        let directory = root.join(directory);
        // On most hosts `/bin` is a link to `/usr/bin`.
        if !directory.is_symlink() {
            programs(&directory, depth, &mut found);
        }
    }
    let mut others = Vec::new();
    for path in found {
        let name = on_host(root, &path);
        let listens = listeners
            .iter()
            .any(|listener| listener.exe.as_ref() == Some(&name));
        if has_capability(&path) {
            survey.notes.push(format!(
                "{name} has cap_net_bind_service: any user who runs it may bind every port below 1024; to revoke it:\n  \
                 setcap -r {name}"
            ));
        } else if is_setuid_root(&path) && listens {
            survey.notes.push(format!(
                "{name} is setuid root and listens below 1024; if it needs root for nothing else:\n  chmod u-s {name}"
            ));
        } else if is_setuid_root(&path) {
            others.push(name);
        }
    }
    if !others.is_empty() {
        survey.notes.push(format!(
            "setuid root for other reasons, and able to bind every port: {}",
            others.join(", ")
        ));
    }
}

fn programs(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for path in entries(directory) {
        let Ok(kind) = path.symlink_metadata() else {
            continue;
        };
        if kind.is_dir() && depth > 1 {
            programs(&path, depth - 1, found);
        } else if kind.is_file() && kind.mode() & 0o111 != 0 {
            found.push(path);
        }
    }
}

fn is_setuid_root(path: &Path) -> bool {
    let metadata = path.symlink_metadata();
    metadata.is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & SETUID != 0)
}

fn has_capability(path: &Path) -> bool {
    let mut value = [0; 64];
    let read = rustix::fs::lgetxattr(path, "security.capability", &mut value);
    read.is_ok_and(|len| grants_binding(&value[..len]))
}

/// Whether the value of `security.capability` permits it: `struct vfs_cap_data`, a magic word and then the
/// permitted set, little-endian, in all of its revisions.
fn grants_binding(value: &[u8]) -> bool {
    let word = value.get(4..8).and_then(|bytes| bytes.try_into().ok());
    word.map(u32::from_le_bytes)
        .is_some_and(|set| set >> NET_BIND_SERVICE & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::grants_binding;

    #[test]
    fn permitted_set_is_read_in_every_revision() {
        let v2 = |low: u32| {
            let words = [0x0200_0001, low, 0, 0, 0];
            words
                .iter()
                .flat_map(|word: &u32| word.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        assert!(grants_binding(&v2(1 << 10)));
        assert!(grants_binding(&v2(1 << 10 | 1 << 13)));
        assert!(!grants_binding(&v2(1 << 13)));
        assert!(!grants_binding(&[]));
        assert!(!grants_binding(&[1, 0, 0, 2, 0, 4]));
    }
}
