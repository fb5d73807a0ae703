//! Reads and compiles the policy's files, at the start and at each reload.

use crate::account_lookup::AccountLookup;
use crate::policy_names::{self, DEADLINE, PolicyNames, Resolved};
use crate::status::Description;
use portguard_common::Memo;
use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::compile::{Tables, compile};
use portguard_policy::policy::{
    self, Fingerprint, Location, Mode, Policy, PolicyFiles, UnknownName,
};
use std::path::PathBuf;
use std::sync::Arc;

/// The files and directories, and what the command line overrides.
#[derive(Clone, Debug)]
pub struct PolicyLoader {
    /// Policy files and directories of them.
    pub paths: Vec<PathBuf>,
    /// `--mode`
    pub mode: Option<Mode>,
    /// `--insecure-policy-permissions`
    pub insecure_permissions: bool,
    /// Where names are looked up.
    pub accounts: AccountLookup,
}

/// A policy as read from its files.
pub struct CompiledPolicy {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its tables.
    pub tables: Tables,
    /// The memo of its decisions.
    pub memo: Box<Memo>,
    /// The description kept beside its tables.
    pub description: Description,
    /// Warnings, as `check` prints them.
    pub warnings: String,
    /// What of it does not work here, a line each.
    pub problems: Vec<String>,
    /// The contents of the files, to detect a change.
    pub fingerprint: Fingerprint,
    /// The files, to compile them again when accounts change.
    pub sources: Arc<PolicyFiles>,
    /// The names that it has, and what they were found to be.
    pub names: Resolved,
    /// How many of them could not be looked up in time.
    pub late: usize,
}

/// The part of a policy that is kept on disk.
#[derive(Clone)]
pub struct ToKeep {
    /// Its files.
    pub sources: Arc<PolicyFiles>,
    /// Its names.
    pub names: Resolved,
    /// The first 12 hex digits of its SHA-256.
    pub hash: String,
}

impl CompiledPolicy {
    /// The part that is kept on disk.
    #[must_use]
    pub fn to_keep(&self) -> ToKeep {
        ToKeep {
            sources: Arc::clone(&self.sources),
            names: self.names.clone(),
            hash: self.tables.short_digest(),
        }
    }
}

impl PolicyLoader {
    /// Reads and compiles the policy. Names that cannot be looked up in time are what they were `before`.
    ///
    /// # Errors
    /// What is wrong with it, as `check` prints it.
    pub fn read(&self, before: &Resolved, color: bool) -> Result<CompiledPolicy, String> {
        self.compile(Arc::new(self.sources()), before, color)
    }

    /// The files as they are now.
    #[must_use]
    pub fn sources(&self) -> PolicyFiles {
        if self.insecure_permissions {
            PolicyFiles::read_shown(&self.paths)
        } else {
            PolicyFiles::read_trusted(&self.paths)
        }
    }

    /// Compiles the policy again if a name that it has means another id than `before`, or `late` names were not looked
    /// up then. Returns what changed too; `None` where nothing did.
    pub fn read_accounts(
        &self,
        sources: Arc<PolicyFiles>,
        before: &Resolved,
        late: usize,
    ) -> Option<(Vec<String>, Result<CompiledPolicy, String>)> {
        let (changes, still_late) = policy_names::changes(&self.accounts, before);
        let worth = !changes.is_empty() || still_late < late;
        worth.then(|| (changes, self.compile(sources, before, false)))
    }

    /// Compiles these files.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn compile(
        &self,
        sources: Arc<PolicyFiles>,
        before: &Resolved,
        color: bool,
    ) -> Result<CompiledPolicy, String> {
        let fingerprint = sources.fingerprint();
        let names = PolicyNames::new(&self.accounts, before, DEADLINE);
        let loaded = policy::load_sources(PolicyFiles::clone(&sources), &names);
        let mut loaded = loaded.map_err(|problems| problems.render(color))?;
        let found = names.into_found();
        // The daemon logs what this host does not support at its start.
        lint(&mut loaded, &Host::ANY);
        let mut policy = loaded.policy;
        if let Some(mode) = self.mode {
            policy.mode = mode;
        }
        let tables = compile(&policy).map_err(|error| format!("{error}\n"))?;
        let memo = tables.memo().ok_or("no memory for the policy\n")?;
        let mut problems = unknown(&policy.unknown);
        if found.late > 0 {
            problems.push(format!(
                "{} names of users and groups could not be looked up in time: they keep the ids that they had",
                found.late,
            ));
        }
        Ok(CompiledPolicy {
            description: Description::new(&policy, &tables, &self.paths, sources.revision()),
            policy: Arc::new(policy),
            tables,
            memo,
            warnings: loaded.warnings.render(color),
            problems,
            fingerprint,
            sources,
            names: found.resolved,
            late: found.late,
        })
    }
}

/// The most unknown names that are listed each for itself.
const LISTED: usize = 20;

fn unknown(names: &[UnknownName]) -> Vec<String> {
    let escape = |text: &str| portguard_policy::escape::escape(text.as_bytes());
    let line = |of: &UnknownName| {
        let Location { file, line, .. } = &of.location;
        let file = escape(&file.to_string_lossy());
        let (word, name, rule) = (of.kind.word(), escape(&of.name), escape(&of.rule));
        format!(
            "{file}:{line}: unknown {word} {name}: this entry of rule {rule} matches nobody until the {word} exists"
        )
    };
    let mut lines: Vec<String> = names.iter().take(LISTED).map(line).collect();
    if let Some(more) = names.len().checked_sub(LISTED).filter(|more| *more > 0) {
        lines.push(format!(
            "{more} more unknown users and groups: see `portguard check`"
        ));
    }
    lines
}

/// Returns free memory to the system. The allocator would keep what a start or a reload needed until the next
/// one, which may be months away.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches only memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loader(paths: &[PathBuf]) -> PolicyLoader {
        PolicyLoader {
            paths: paths.to_vec(),
            mode: None,
            insecure_permissions: false,
            accounts: AccountLookup::start().unwrap_or_else(|error| panic!("{error}")),
        }
    }

    const POLICY: &str = "version: 1\nrules:\n- { name: a, action: allow, ports: [80], users: [root, no-such-user] }\n\
                          - { name: b, action: allow, ports: [81], groups: [no-such-group] }\n";

    #[test]
    fn policy_that_others_can_write_is_refused() {
        use std::fs::Permissions;
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = directory.path().join("p.yaml");
        let write = |path: &std::path::Path, text: &str, mode| {
            std::fs::write(path, text)
                .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
                .unwrap_or_else(|error| panic!("{error}"));
        };
        write(&path, "version: 1\n", 0o666);
        let mut loader = loader(&[directory.path().to_owned()]);
        let error = |loader: &PolicyLoader| loader.read(&Resolved::new(), false).err();
        let refused = format!(
            "{0}:1:1: refused: {0} has mode 0666, so that others than its owner could change the policy: `chmod go-w` it, \
             or start with --insecure-policy-permissions\n",
            path.display()
        );
        assert_eq!(error(&loader), Some(refused));
        let before = loader.sources().fingerprint();
        write(&path, "version: 1\n", 0o644);
        assert!(before != loader.sources().fingerprint());
        assert_eq!(error(&loader), None);
        // A file elsewhere, which says a secret where a policy is expected.
        let elsewhere = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let secret = elsewhere.path().join("shadow");
        write(&secret, "root: $6$secret\n", 0o600);
        let linked = symlink(&secret, directory.path().join("q.yaml"));
        linked.unwrap_or_else(|error| panic!("{error}"));
        for insecure in [false, true] {
            loader.insecure_permissions = insecure;
            let shown = error(&loader).unwrap_or_default();
            assert!(
                shown.contains("q.yaml:1:1: a problem whose text is not shown"),
                "{shown}"
            );
            assert!(
                !shown.contains("root") && !shown.contains("secret"),
                "{shown}"
            );
        }
    }

    /// Wherever the files are, and whatever their names of users mean there.
    #[test]
    fn revision_is_of_the_names_and_contents_of_files() {
        let revision = |files: &[(&str, &str)]| {
            let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
            for (name, text) in files {
                let written = std::fs::write(directory.path().join(name), text);
                written.unwrap_or_else(|error| panic!("{error}"));
            }
            let read = loader(&[directory.path().to_owned()]).read(&Resolved::new(), false);
            let read = read.unwrap_or_else(|error| panic!("{error}"));
            read.description.policy.revision
        };
        let other_host = "version: 1\nhosts: [elsewhere-*]\nmode: audit\n";
        let files = [("a.yaml", POLICY), ("b.yaml", other_host)];
        let first = revision(&files);
        assert_eq!(first.len(), 12);
        assert_eq!(first, revision(&files));
        for other in [
            [("a.yaml", POLICY), ("c.yaml", other_host)],
            [("a.yaml", POLICY), ("b.yaml", "version: 1\n")],
            [("a.yaml", POLICY), ("b.yaml", "version: 1\n\n")],
        ] {
            assert_ne!(first, revision(&other));
        }
    }

    #[test]
    fn unknown_names_are_problems_of_a_policy_that_loads() {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = directory.path().join("p.yaml");
        std::fs::write(&path, POLICY).unwrap_or_else(|error| panic!("{error}"));
        let loader = loader(std::slice::from_ref(&path));
        let read = loader.read(&Resolved::new(), false);
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        let file = path.display();
        assert_eq!(
            read.problems,
            [
                format!(
                    "{file}:3: unknown user no-such-user: this entry of rule a matches nobody until the user exists"
                ),
                format!(
                    "{file}:4: unknown group no-such-group: this entry of rule b matches nobody until the group exists"
                ),
            ]
        );
        assert_eq!(read.policy.rules[0].users, Some(vec![0..=0]));
        assert_eq!(read.policy.rules[1].groups, Some(vec![]));
        assert!(
            loader
                .read_accounts(Arc::clone(&read.sources), &read.names, 0)
                .is_none()
        );
        // As if root had had another uid: the policy is compiled again, from the same files.
        let mut before = read.names.clone();
        before.values_mut().for_each(|id| *id = id.map(|_| 5));
        std::fs::remove_file(&path).unwrap_or_else(|error| panic!("{error}"));
        let again = loader.read_accounts(Arc::clone(&read.sources), &before, 0);
        let (changes, again) = again.unwrap_or_else(|| panic!("root has not changed"));
        assert_eq!(changes, ["user root: 5 -> 0"]);
        let again = again.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.policy.rules[0].users, Some(vec![0..=0]));
        assert!(again.fingerprint == read.fingerprint);
        // The same files, and another policy where they name users.
        let revision = |of: &CompiledPolicy| of.description.policy.revision.clone();
        assert_eq!(revision(&again), revision(&read));
    }
}
