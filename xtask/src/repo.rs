//! The checkout that xtask works on.
//!
//! It is found at run time. A path compiled in would be that of the checkout in which xtask was built, and cargo
//! does not rebuild xtask in a copy of that checkout.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Finds the checkout; the other functions rely on it.
pub(crate) fn locate() -> Result<()> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let current = std::env::current_dir().context("reading the current directory")?;
    let root = find(manifest.as_deref(), &current).with_context(|| {
        format!(
            "no portguard checkout at or above {}: run `cargo xtask` inside one",
            current.display()
        )
    })?;
    ROOT.get_or_init(|| root);
    Ok(())
}

/// The top directory of the checkout.
pub(crate) fn root() -> &'static Path {
    // Only tests come here without `locate`, and cargo runs them in the directory of xtask.
    ROOT.get_or_init(|| PathBuf::from(".."))
}

/// A path in the checkout.
pub(crate) fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// The checkout of xtask's own manifest, which `cargo run` names at run time, or else the nearest one above the
/// current directory.
fn find(manifest: Option<&Path>, current: &Path) -> Option<PathBuf> {
    let of_manifest = manifest.and_then(Path::parent);
    let is_checkout = |directory: &&Path| directory.join("xtask/Cargo.toml").is_file();
    of_manifest
        .into_iter()
        .chain(current.ancestors())
        .find(is_checkout)
        .map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a checkout, removed at the end.
    fn checkout() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(directory.path().join("xtask/src")).expect("directories");
        std::fs::write(directory.path().join("xtask/Cargo.toml"), "").expect("a manifest");
        directory
    }

    #[test]
    fn checkout_is_that_of_the_manifest_at_run_time() {
        let (copy, elsewhere) = (checkout(), checkout());
        let manifest = copy.path().join("xtask");
        let found = find(Some(&manifest), elsewhere.path());
        assert_eq!(found.as_deref(), Some(copy.path()));
    }

    #[test]
    fn checkout_is_searched_upward_without_a_manifest() {
        let copy = checkout();
        let below = copy.path().join("xtask/src");
        assert_eq!(find(None, &below).as_deref(), Some(copy.path()));
        // Another package's manifest, as where a test runs the program.
        let foreign = tempfile::tempdir().expect("a directory");
        let found = find(Some(foreign.path()), &below);
        assert_eq!(found.as_deref(), Some(copy.path()));
        assert_eq!(find(None, foreign.path()), None);
    }
}
