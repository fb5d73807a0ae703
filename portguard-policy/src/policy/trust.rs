//! Who may write a policy file: as for the keys of sshd (`StrictModes`), only root and the user of this process.

use crate::path_parts::{MAX_LINKS, Part, parts};
use rustix::process::geteuid;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Write permission of the group and of others.
const WRITABLE: u32 = 0o022;

/// In a directory with this bit only the owner of a file renames or removes it.
const STICKY: u32 = 0o1000;

/// What a path is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The policy's files.
    Policy,
    /// What portguard keeps.
    State,
}

impl Purpose {
    /// What others could change, and how to go on where the path has to stay as it is.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Policy => ("the policy", "start with --insecure-policy-permissions"),
            Self::State => ("the kept policy", "name another directory with --state"),
        }
    }
}

/// Where a directory is on the way to a policy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Above it. Others may write in a directory such as /tmp: what belongs to root there stays what it is.
    Above,
    /// It is a directory of policy files: every file in it counts.
    Policy,
}

/// Checks that only root and the user of this process can change what a path leads to: the files and directories on the
/// way, and those behind symbolic links. A path that leads to nothing is an error of its reader, not of this check.
///
/// # Errors
/// Who else could, and how to change that.
pub fn check(path: &Path) -> Result<(), String> {
    check_for(path, Purpose::Policy)
}

/// The same for the directory in which the policy in force is kept, and for what is in it.
///
/// # Errors
/// Who else could change it, and how to change that.
pub fn check_state(path: &Path) -> Result<(), String> {
    check_for(path, Purpose::State)
}

fn check_for(path: &Path, purpose: Purpose) -> Result<(), String> {
    let own = geteuid().as_raw();
    let path = std::path::absolute(path).map_err(|error| format!("cannot read file: {error}"))?;
    let mut here = PathBuf::from("/");
    let mut ahead = parts(&path);
    let mut links = 0;
    if let Ok(metadata) = here.metadata() {
        directory(&here, &metadata, (own, purpose), Place::Above)?;
    }
    while let Some(part) = ahead.pop_front() {
        let name = match part {
            Part::Root => {
                here = PathBuf::from("/");
                continue;
            }
            Part::Parent => {
                here.pop();
                continue;
            }
            Part::Name(name) => name,
        };
        let next = here.join(name);
        let Ok(metadata) = next.symlink_metadata() else {
            return Ok(());
        };
        if metadata.is_symlink() {
            owner(&next, &metadata, (own, purpose))?;
            links += 1;
            let Ok(target) = next.read_link() else {
                return Ok(());
            };
            if links > MAX_LINKS {
                return Ok(());
            }
            for part in parts(&target).into_iter().rev() {
                ahead.push_front(part);
            }
        } else if metadata.is_dir() {
            let place = if ahead.is_empty() {
                Place::Policy
            } else {
                Place::Above
            };
            directory(&next, &metadata, (own, purpose), place)?;
            here = next;
        } else {
            owner(&next, &metadata, (own, purpose))?;
            mode(&next, &metadata, purpose)?;
            return Ok(());
        }
    }
    Ok(())
}

/// The uid of this process, and what is checked.
type Whose = (u32, Purpose);

fn directory(path: &Path, metadata: &Metadata, whose: Whose, place: Place) -> Result<(), String> {
    owner(path, metadata, whose)?;
    if place == Place::Above && metadata.mode() & STICKY != 0 {
        return Ok(());
    }
    mode(path, metadata, whose.1)
}

fn owner(path: &Path, metadata: &Metadata, (own, purpose): Whose) -> Result<(), String> {
    let uid = metadata.uid();
    if uid == 0 || uid == own {
        return Ok(());
    }
    let (what, otherwise) = purpose.words();
    Err(format!(
        "refused: {} belongs to uid {uid}, who could change {what}: `chown root` it, or {otherwise}",
        path.display()
    ))
}

fn mode(path: &Path, metadata: &Metadata, purpose: Purpose) -> Result<(), String> {
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE == 0 {
        return Ok(());
    }
    let (what, otherwise) = purpose.words();
    Err(format!(
        "refused: {} has mode {mode:04o}, so that others than its owner could change {what}: `chmod go-w` it, or \
         {otherwise}",
        path.display()
    ))
}

/// Whether symbolic links lead a file out of the directory that it is named in.
pub(super) fn is_outside(file: &Path) -> bool {
    let directory = match file.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    match (file.canonicalize(), directory.canonicalize()) {
        (Ok(file), Ok(directory)) => !file.starts_with(directory),
        // Where one of them cannot be resolved, nothing can be read either.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    fn chmod(path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    /// A directory of policies, below one above it.
    fn policies() -> io::Result<(tempfile::TempDir, PathBuf, PathBuf)> {
        let above = tempfile::tempdir()?;
        let directory = above.path().join("policies");
        fs::create_dir(&directory)?;
        chmod(&directory, 0o755)?;
        let file = directory.join("p.yaml");
        fs::write(&file, "version: 1\n")?;
        chmod(&file, 0o644)?;
        Ok((above, directory, file))
    }

    #[test]
    fn trust_ends_where_others_can_write() -> io::Result<()> {
        let (above, directory, file) = policies()?;
        assert_eq!(check(&directory), Ok(()));
        assert_eq!(check(&file), Ok(()));
        for (path, mode, good) in [(&file, 0o664, 0o644), (&directory, 0o757, 0o755)] {
            chmod(path, mode)?;
            let expected = format!(
                "refused: {} has mode {mode:04o}, so that others than its owner could change the policy: `chmod go-w` \
                 it, or start with --insecure-policy-permissions",
                path.display()
            );
            assert_eq!(check(&file), Err(expected));
            chmod(path, good)?;
        }
        chmod(&directory, 0o757)?;
        let expected = format!(
            "refused: {} has mode 0757, so that others than its owner could change the kept policy: `chmod go-w` it, \
             or name another directory with --state",
            directory.display()
        );
        assert_eq!(check_state(&file), Err(expected));
        chmod(&directory, 0o755)?;
        chmod(above.path(), 0o777)?;
        assert!(check(&file).is_err_and(|error| error.contains("has mode 0777")));
        // As /tmp: nobody else can replace the directory in it. A directory of policies is another matter.
        chmod(above.path(), 0o1777)?;
        assert_eq!(check(&file), Ok(()));
        assert!(check(above.path()).is_err_and(|error| error.contains("has mode 1777")));
        assert_eq!(check(&directory.join("none/none.yaml")), Ok(()));
        Ok(())
    }

    #[test]
    fn trust_ends_where_another_user_owns() -> io::Result<()> {
        let (above, directory, file) = policies()?;
        if chown(&file, Some(4242), None).is_err() {
            eprintln!("skipped: only root can give a file away");
            return Ok(());
        }
        let expected = format!(
            "refused: {} belongs to uid 4242, who could change the policy: `chown root` it, or start with \
             --insecure-policy-permissions",
            file.display()
        );
        assert_eq!(check(&file), Err(expected));
        chown(&file, Some(0), None)?;
        chown(above.path(), Some(4242), None)?;
        assert!(check(&directory).is_err_and(|error| error.contains("belongs to uid 4242")));
        Ok(())
    }

    #[test]
    fn trust_follows_symbolic_links() -> io::Result<()> {
        let (above, directory, file) = policies()?;
        let elsewhere = above.path().join("elsewhere");
        fs::create_dir(&elsewhere)?;
        fs::write(elsewhere.join("q.yaml"), "version: 1\n")?;
        let link = directory.join("q.yaml");
        symlink("../elsewhere/q.yaml", &link)?;
        assert_eq!(check(&link), Ok(()));
        assert!(is_outside(&link));
        assert!(!is_outside(&file));
        chmod(&elsewhere, 0o777)?;
        assert!(check(&link).is_err_and(|error| error.contains("elsewhere has mode 0777")));
        // As the kubelet lays out a ConfigMap.
        fs::create_dir(directory.join("..2026"))?;
        fs::write(directory.join("..2026/r.yaml"), "version: 1\n")?;
        symlink("..2026", directory.join("..data"))?;
        symlink("..data/r.yaml", directory.join("r.yaml"))?;
        let link = directory.join("r.yaml");
        assert_eq!(check(&link), Ok(()));
        assert!(!is_outside(&link));
        chmod(&directory.join("..2026"), 0o777)?;
        assert!(check(&link).is_err());
        symlink("loop", directory.join("loop"))?;
        assert_eq!(check(&directory.join("loop")), Ok(()));
        Ok(())
    }
}
