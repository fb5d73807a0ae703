//! Programs that run as root or with `cap_net_bind_service` whoever starts them.

use super::listeners::Listener;
use super::root::{entries, on_host};
use super::survey::Survey;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where programs are, and how deep.
const PLACES: [(&str, usize); 9] = [
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
    for (place, depth) in PLACES {
        let place = root.join(place);
        // `/bin` is `/usr/bin` on most hosts.
        if !place.is_symlink() {
            programs(&place, depth, &mut found);
        }
    }
    let mut quiet = Vec::new();
    for path in found {
        let name = on_host(root, &path);
        let listens = listeners
            .iter()
            .any(|listener| listener.exe.as_ref() == Some(&name));
        if has_capability(&path) {
            survey.notes.push(format!(
                "{name} has cap_net_bind_service: whoever runs it may bind every port below 1024; take it away:\n  \
                 setcap -r {name}"
            ));
        } else if is_setuid_root(&path) && listens {
            survey.notes.push(format!(
                "{name} is setuid root and listens below 1024; where that is all it is root for:\n  chmod u-s {name}"
            ));
        } else if is_setuid_root(&path) {
            quiet.push(name);
        }
    }
    if !quiet.is_empty() {
        survey.notes.push(format!(
            "setuid root for other ends, and free to bind every port: {}",
            quiet.join(", ")
        ));
    }
}

fn programs(place: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for path in entries(place) {
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
    fn the_permitted_set_of_every_revision() {
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
