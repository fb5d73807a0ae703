//! The policy that `run` starts with: that of its files, or what stands in where they are broken.

use crate::daemon::{Fallback, FallbackKind};
use crate::exit::Exit;
use crate::loader::{CompiledPolicy, PolicyLoader};
use crate::policy_names::Resolved;
use crate::policy_store::{KeptPolicy, PolicyStore};
use crate::stderr::{self, log_line};
use crate::watch::wait_for_writers;
use clap::ValueEnum;
use portguard_policy::policy::PolicyFiles;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

/// What to enforce where the files are broken and no policy was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnError {
    /// Deny every bind of ports 1-1023
    DenyProtected,
    /// Enforce nothing and exit with code 1; the kernel's own check decides
    Kernel,
}

/// Denies the ports that a policy protects if it does not say which.
const DENY_PROTECTED: &str = "version: 1\ndefault: deny\n";

/// Reads the policy; where it is broken, takes the one that was kept, or does as `--on-error` says, and logs why.
pub(super) fn first_policy(
    loader: &PolicyLoader,
    store: &PolicyStore,
    on_error: OnError,
) -> Result<(CompiledPolicy, Option<Fallback>), Exit> {
    let kept = store.kept(&loader.paths).unwrap_or_else(|error| {
        log_line!("portguard: {error}");
        None
    });
    // Names that are not looked up in time are what they were.
    let names = kept.as_ref().map_or_else(Resolved::new, KeptPolicy::names);
    wait_for_writers(&loader.paths);
    let files = Arc::new(loader.sources());
    let read = files.fingerprint();
    let color = std::io::stderr().is_terminal();
    let error = match loader.compile(files, &names, color) {
        Ok(fresh) => return Ok((fresh, None)),
        Err(error) => error,
    };
    stderr::text(&error);
    // The socket shows it too.
    let plain = if color {
        anstream::adapter::strip_str(&error).to_string()
    } else {
        error
    };
    let (mut standing_in, kind, problem) = stand_in(loader, kept, &names, on_error).ok_or_else(|| {
        log_line!(
            "portguard: warning: the policy's files are broken and no earlier policy is kept: nothing is enforced by \
             this start, and the kernel's own check decides; `--on-error deny-protected` would deny ports 1-1023"
        );
        Exit::NotSo
    })?;
    log_line!("portguard: warning: {problem}; fix the files, which are then read again");
    // So that the files count as changed once they are.
    standing_in.fingerprint = read;
    let fallback = Fallback {
        kind,
        problem,
        error: plain,
    };
    Ok((standing_in, Some(fallback)))
}

/// What is enforced instead, and the problem in a line.
fn stand_in(
    loader: &PolicyLoader,
    kept: Option<KeptPolicy>,
    names: &Resolved,
    on_error: OnError,
) -> Option<(CompiledPolicy, FallbackKind, String)> {
    if let Some(kept) = kept {
        match loader.compile(Arc::new(kept.sources()), names, false) {
            Ok(policy) => {
                let problem = format!(
                    "the policy's files are broken: the last policy in force is enforced, {}, kept since {}",
                    kept.hash, kept.since
                );
                return Some((policy, FallbackKind::Kept, problem));
            }
            Err(error) => {
                stderr::text(&error);
                log_line!("portguard: the kept policy is not valid for this version of portguard");
            }
        }
    }
    if on_error == OnError::Kernel {
        return None;
    }
    let path = PathBuf::from("built-in");
    let files = PolicyFiles::of_texts([(path, DENY_PROTECTED.to_owned(), false)]);
    let policy = loader.compile(Arc::new(files), names, false).ok()?;
    let problem = "the policy's files are broken and no earlier policy is kept: every bind of ports 1-1023 is denied"
        .to_owned();
    Some((policy, FallbackKind::DenyProtected, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account_lookup::AccountLookup;
    use std::fs;
    use std::io;

    const GOOD: &str = "version: 1\nrules: [{ name: a, action: deny, ports: [80] }]\n";

    #[test]
    fn first_policy_is_that_of_the_files_or_the_one_kept() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("p.yaml");
        let loader = PolicyLoader {
            paths: vec![path.clone()],
            mode: None,
            insecure_permissions: false,
            accounts: AccountLookup::start()?,
        };
        let store = PolicyStore::new(directory.path().join("state"));
        let first = |on_error| first_policy(&loader, &store, on_error);
        assert!(matches!(first(OnError::Kernel), Err(Exit::NotSo)));
        let Ok((denied, Some(why))) = first(OnError::DenyProtected) else {
            panic!("nothing stands in");
        };
        assert_eq!(why.kind, FallbackKind::DenyProtected);
        assert!(why.problem.contains("every bind of ports 1-1023 is denied"));
        assert!(why.error.contains("No such file"));
        assert_eq!(denied.policy.default, portguard_common::Verdict::Deny);
        assert!(denied.fingerprint == loader.sources().fingerprint());
        fs::write(&path, GOOD)?;
        let Ok((good, None)) = first(OnError::Kernel) else {
            panic!("the files are good");
        };
        store
            .keep(&loader.paths, &good.to_keep())
            .map_err(io::Error::other)?;
        fs::write(&path, "version: 1\nmod: audit\n")?;
        for on_error in [OnError::Kernel, OnError::DenyProtected] {
            let Ok((kept, Some(why))) = first(on_error) else {
                panic!("nothing stands in");
            };
            assert_eq!(why.kind, FallbackKind::Kept);
            let expected = format!(
                "the policy's files are broken: the last policy in force is enforced, {}, kept since ",
                good.tables.short_digest()
            );
            assert!(why.problem.starts_with(&expected), "{}", why.problem);
            assert!(why.error.contains("unknown key `mod`"));
            assert_eq!(kept.tables.short_digest(), good.tables.short_digest());
            assert!(kept.fingerprint == loader.sources().fingerprint());
        }
        Ok(())
    }
}
