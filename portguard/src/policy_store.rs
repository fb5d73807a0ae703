//! The last policy that was in force, kept on disk: it is enforced where the policy's files are broken at a start.

use crate::loader::ToKeep;
use crate::policy_names::Resolved;
use crate::status;
use portguard_policy::policy::{AccountKind, PolicyFiles, check_state};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use thiserror::Error;

/// Where policies are kept.
pub const DIRECTORY: &str = "/var/lib/portguard";

/// The first word of a kept policy, with the version of its form.
const MAGIC: &str = "portguard-policy-1";

/// The end of the names of kept policies.
const SUFFIX: &str = "policy";

/// How many are kept, each for other paths: trying out policies must not fill the disk.
const KEPT: usize = 8;

/// Why a policy cannot be kept, or a kept one cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("cannot {what} {}: {source}", .path.display())]
    System {
        /// The failed step.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than root could have changed it.
    #[error("the kept policy is not used: {0}")]
    Untrusted(String),
    /// It is not what was written.
    #[error("{} is damaged, and is not used: its digest does not match", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// A policy as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptPolicy {
    /// When it was kept, RFC 3339.
    pub since: String,
    /// The first 12 hex digits of its SHA-256, as in events.
    pub hash: String,
    /// The paths that it was read from.
    paths: Vec<PathBuf>,
    files: Vec<KeptFile>,
    users: Vec<(String, Option<u32>)>,
    groups: Vec<(String, Option<u32>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptFile {
    path: PathBuf,
    text: String,
    private: bool,
}

impl KeptPolicy {
    fn new(paths: &[PathBuf], policy: &ToKeep) -> Self {
        let file = |(path, text, private): (&Path, &str, bool)| KeptFile {
            path: path.to_owned(),
            text: text.to_owned(),
            private,
        };
        let of = |wanted: AccountKind| {
            let names = policy
                .names
                .iter()
                .filter(move |((kind, _), _)| *kind == wanted);
            names.map(|((_, name), id)| (name.clone(), *id)).collect()
        };
        Self {
            since: status::now(),
            hash: policy.hash.clone(),
            paths: absolute(paths),
            files: policy.sources.texts().map(file).collect(),
            users: of(AccountKind::User),
            groups: of(AccountKind::Group),
        }
    }

    /// The files, as they were.
    #[must_use]
    pub fn sources(&self) -> PolicyFiles {
        let files = self.files.iter();
        PolicyFiles::of_texts(
            files.map(|file| (file.path.clone(), file.text.clone(), file.private)),
        )
    }

    /// What the names of users and groups were.
    #[must_use]
    pub fn names(&self) -> Resolved {
        let key = |kind| move |(name, id): &(String, Option<u32>)| ((kind, name.clone()), *id);
        let users = self.users.iter().map(key(AccountKind::User));
        users
            .chain(self.groups.iter().map(key(AccountKind::Group)))
            .collect()
    }
}

/// The directory of kept policies.
#[derive(Clone, Debug)]
pub struct PolicyStore(PathBuf);

impl PolicyStore {
    /// The directory; it is made when a policy is kept.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The file for the policy of these paths.
    fn file(&self, paths: &[PathBuf]) -> PathBuf {
        let mut hash = Sha256::new();
        for path in absolute(paths) {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
        }
        let name = hex::encode(hash.finalize()).split_off(52);
        self.0.join(name).with_extension(SUFFIX)
    }

    /// Keeps `policy`, which was read from `paths`, in place of the one before.
    ///
    /// # Errors
    /// It cannot be written, or others could change it.
    pub fn keep(&self, paths: &[PathBuf], policy: &ToKeep) -> Result<(), StoreError> {
        // First of all: nothing is made behind another user's link.
        check_state(&self.0).map_err(StoreError::Untrusted)?;
        let mut make = DirBuilder::new();
        let made = make.recursive(true).mode(0o700).create(&self.0);
        made.map_err(system("make", &self.0))?;
        check_state(&self.0).map_err(StoreError::Untrusted)?;
        // Strings, numbers and paths that were strings always serialise; other paths are left out of what is kept.
        let json = serde_json::to_vec(&KeptPolicy::new(paths, policy));
        let path = self.file(paths);
        let json = json
            .map_err(io::Error::from)
            .map_err(system("write", &path))?;
        let digest = hex::encode(Sha256::digest(&json));
        // Written as a whole or not at all.
        let next = path.with_extension("next");
        let _ = fs::remove_file(&next);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&next)
            .and_then(|mut file| {
                writeln!(file, "{MAGIC} {digest}")?;
                file.write_all(&json)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&next, &path))
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(system("write", &path))?;
        self.prune(&path);
        Ok(())
    }

    /// The policy that was kept last for these paths; `None` where none was.
    ///
    /// # Errors
    /// It cannot be read, others could have changed it, or it is damaged.
    pub fn kept(&self, paths: &[PathBuf]) -> Result<Option<KeptPolicy>, StoreError> {
        let path = self.file(paths);
        check_state(&path).map_err(StoreError::Untrusted)?;
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(system("read", &path))?,
        };
        let kept = parse(&bytes).ok_or(StoreError::Damaged { path })?;
        Ok((kept.paths == absolute(paths)).then_some(kept))
    }

    /// Removes the oldest where there are too many, never `newest`.
    fn prune(&self, newest: &Path) {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return;
        };
        let mut others: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path != newest && path.extension().is_some_and(|end| end == SUFFIX))
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .collect();
        others.sort();
        let excess = (others.len() + 1).saturating_sub(KEPT);
        for (_, path) in others.into_iter().take(excess) {
            let _ = fs::remove_file(path);
        }
    }
}

fn parse(bytes: &[u8]) -> Option<KeptPolicy> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, json) = bytes.split_at(end);
    let json = json.get(1..)?;
    let digest = hex::encode(Sha256::digest(json));
    let is_whole = head == format!("{MAGIC} {digest}").as_bytes();
    is_whole
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

/// The paths, whatever directory portguard is started in.
fn absolute(paths: &[PathBuf]) -> Vec<PathBuf> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    paths.iter().map(absolute).collect()
}

fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::System { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account_lookup::AccountLookup;
    use crate::loader::{CompiledPolicy, PolicyLoader};
    use std::os::unix::fs::PermissionsExt as _;

    fn compiled(path: &Path) -> CompiledPolicy {
        let loader = PolicyLoader {
            paths: vec![path.to_owned()],
            mode: None,
            insecure_permissions: false,
            accounts: AccountLookup::start().unwrap_or_else(|error| panic!("{error}")),
        };
        let read = loader.read(&Resolved::new(), false);
        read.unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn kept_policy_is_what_was_in_force() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("p.yaml");
        let text = "version: 1\nrules: [{ name: a, action: deny, ports: [80], users: [root, nobody-has-it] }]\n";
        fs::write(&path, text)?;
        let policy = compiled(&path);
        let paths = [path];
        let store = PolicyStore::new(directory.path().join("state/portguard"));
        let kept = |store: &PolicyStore| store.kept(&paths).map_err(|error| error.to_string());
        assert!(matches!(kept(&store), Ok(None)));
        store
            .keep(&paths, &policy.to_keep())
            .map_err(io::Error::other)?;
        store
            .keep(&paths, &policy.to_keep())
            .map_err(io::Error::other)?;
        let file = store.file(&paths);
        assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
        assert_eq!(store.0.metadata()?.permissions().mode() & 0o777, 0o700);
        let Ok(Some(again)) = kept(&store) else {
            panic!("nothing is kept");
        };
        assert!(again.sources().fingerprint() == policy.fingerprint);
        assert_eq!(again.names(), policy.names);
        assert_eq!(again.hash, policy.tables.short_digest());
        // For other paths there is none.
        assert!(matches!(store.kept(&["/none".into()]), Ok(None)));
        let whole = fs::read(&file)?;
        for damage in [&whole[..whole.len() - 1], &whole[1..], b"", b"\n"] {
            fs::write(&file, damage)?;
            let expected = format!(
                "{} is damaged, and is not used: its digest does not match",
                file.display()
            );
            assert_eq!(kept(&store).err(), Some(expected));
        }
        fs::write(&file, &whole)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        let refused = kept(&store).err().unwrap_or_default();
        assert!(
            refused.starts_with("the kept policy is not used: refused: ")
                && refused.ends_with("`chmod go-w` it, or name another directory with --state"),
            "{refused}"
        );
        Ok(())
    }

    #[test]
    fn kept_policy_makes_nothing_behind_link_of_another() -> io::Result<()> {
        use std::os::unix::fs::{lchown, symlink};
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("p.yaml");
        fs::write(&path, "version: 1\n")?;
        let target = directory.path().join("target");
        fs::create_dir(&target)?;
        let link = directory.path().join("link");
        symlink(&target, &link)?;
        lchown(&link, Some(65534), None)?;
        let policy = compiled(&path);
        let kept = PolicyStore::new(link.join("state")).keep(&[path], &policy.to_keep());
        let error = kept
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("link belongs to uid 65534"), "{error}");
        assert_eq!(fs::read_dir(&target)?.count(), 0);
        Ok(())
    }

    #[test]
    fn kept_policies_are_bounded() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("p.yaml");
        fs::write(&path, "version: 1\n")?;
        let policy = compiled(&path);
        let store = PolicyStore::new(directory.path().join("state"));
        for number in 0..2 * KEPT {
            let paths = [PathBuf::from(format!("/etc/{number}"))];
            store
                .keep(&paths, &policy.to_keep())
                .map_err(io::Error::other)?;
            assert!(matches!(store.kept(&paths), Ok(Some(_))));
        }
        assert_eq!(fs::read_dir(&store.0)?.count(), KEPT);
        let unwritable = PolicyStore::new(path.join("state"));
        let error = unwritable
            .keep(&[path], &policy.to_keep())
            .err()
            .map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.starts_with("cannot make ")));
        Ok(())
    }
}
