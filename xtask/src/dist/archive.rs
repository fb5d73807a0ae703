//! Archives that are the same whenever and wherever they are made.

use super::release::Release;
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// Packs the files below `tree` into a `.tar.gz` in which all are below one directory.
pub(super) fn pack(tree: &Path, directory: &str, release: &Release, into: &Path) -> Result<()> {
    let mut tar = shell::command("tar");
    tar.args(["--sort=name", "--format=gnu", "--numeric-owner"]);
    tar.args(["--owner=0", "--group=0", "--mode=u+rw,go-w"]);
    tar.arg(format!("--mtime=@{}", release.epoch));
    // By -n without the time of the compression.
    tar.arg("--use-compress-program=gzip -9n");
    tar.arg(format!("--transform=s,^\\.,{directory},"));
    tar.arg("-C").arg(tree).arg("-cf").arg(into).arg(".");
    shell::run(&mut tar).with_context(|| format!("packing {}", into.display()))
}

/// Fails unless two directories have the same files with the same bytes.
pub(super) fn ensure_equal(one: &Path, other: &Path) -> Result<()> {
    let names = names(one)?;
    ensure!(
        names == self::names(other)?,
        "{} and {} have different files",
        one.display(),
        other.display()
    );
    for name in names {
        ensure!(
            fs::read(one.join(&name))? == fs::read(other.join(&name))?,
            "{name} is not reproducible: packed twice, it differs"
        );
    }
    Ok(())
}

/// The names of the files in a directory, in order.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Writes SHA256SUMS, as `sha256sum --check` reads it.
pub(super) fn checksums(directory: &Path) -> Result<()> {
    let list = directory.join("SHA256SUMS");
    let _ = fs::remove_file(&list);
    let mut sums = shell::command("sha256sum");
    let sums = shell::query(sums.current_dir(directory).args(names(directory)?))?;
    fs::write(&list, sums).with_context(|| format!("writing {}", list.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn tree(age: u64) -> tempfile::TempDir {
        let tree = tempfile::tempdir().expect("a directory");
        for name in ["b", "a/one", "a/two"] {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(&path, name).expect("a file");
            let file = fs::File::options().write(true).open(&path).expect("a file");
            let time = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(time).expect("its time");
        }
        tree
    }

    fn packed(age: u64) -> tempfile::TempDir {
        let release = Release {
            version: "1.2.3".to_owned(),
            epoch: 1_700_000_000,
        };
        let (tree, into) = (tree(age), tempfile::tempdir().expect("a directory"));
        let archive = into.path().join("x.tar.gz");
        pack(tree.path(), "x-1.2.3", &release, &archive).expect("packed");
        into
    }

    #[test]
    fn archive_does_not_depend_on_when_it_is_made() {
        let (one, other) = (packed(0), packed(9_999));
        ensure_equal(one.path(), other.path()).expect("equal");
        fs::write(other.path().join("x.tar.gz"), "").expect("a file");
        let error = ensure_equal(one.path(), other.path()).expect_err("different");
        assert!(
            error
                .to_string()
                .starts_with("x.tar.gz is not reproducible")
        );
        fs::write(other.path().join("y"), "").expect("a file");
        let error = ensure_equal(one.path(), other.path()).expect_err("different");
        assert!(error.to_string().ends_with("have different files"));
    }

    #[test]
    fn archive_has_one_directory_and_checksums_are_right() {
        let made = packed(0);
        let mut list = shell::command("tar");
        list.current_dir(made.path()).args(["-tf", "x.tar.gz"]);
        let list = shell::query(&mut list).expect("a list");
        assert!(
            list.lines().all(|line| line.starts_with("x-1.2.3/")),
            "{list}"
        );
        checksums(made.path()).expect("sums");
        let mut check = shell::command("sha256sum");
        check
            .current_dir(made.path())
            .args(["--check", "SHA256SUMS"]);
        assert_eq!(shell::query(&mut check).expect("checked"), "x.tar.gz: OK\n");
    }
}
