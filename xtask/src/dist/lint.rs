//! What the distributions' own checkers say of the packages.

use super::target::{Format, Target};
use super::{contents, package};
use crate::{repo, shell};
use anyhow::{Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Checks a package of this format, and prints what is not checked.
pub(super) fn check(format: Format, target: Target, version: &str, directory: &Path) -> Result<()> {
    let Some(name) = package::name(format, target, version) else {
        return Ok(());
    };
    let path = directory.join(&name);
    ensure!(path.is_file(), "nfpm did not make {}", path.display());
    let listed = files(format, &path)?;
    for wanted in contents::paths(format) {
        ensure!(
            listed.contains(&wanted),
            "{name} lacks /{}",
            wanted.display()
        );
    }
    match format {
        Format::Deb => {
            let mut lintian = shell::command("lintian");
            // Root's lintian warns that it is root's.
            lintian.args(["--fail-on", "error,warning", "--allow-root"]);
            lintian.args(["--profile", "debian", "--tag-display-limit", "0"]);
            shell::run(lintian.arg(&path))
        }
        Format::Rpm => {
            let mut rpmlint = shell::command("rpmlint");
            rpmlint.arg("--strict").arg("--config");
            rpmlint.arg(repo::path("dist/rpm/rpmlint.toml"));
            shell::run(rpmlint.arg(&path))
        }
        Format::Apk | Format::Arch | Format::Tar => {
            eprintln!(
                "xtask: {name}: its list of files is checked; Debian has no checker of this format"
            );
            Ok(())
        }
    }
}

/// The files in a package.
fn files(format: Format, path: &Path) -> Result<Vec<PathBuf>> {
    let mut list = match format {
        Format::Deb => {
            let mut bash = shell::command("bash");
            bash.args([
                "-o",
                "pipefail",
                "-c",
                "dpkg-deb --fsys-tarfile \"$1\" | tar -t",
                "list",
            ]);
            bash
        }
        Format::Rpm => {
            let mut rpm = shell::command("rpm");
            rpm.args(["-qp", "--list", "--nosignature"]);
            rpm
        }
        // An apk is several gzip streams, each a tar archive without an end.
        Format::Apk | Format::Arch => {
            let mut tar = shell::command("tar");
            tar.args(["--ignore-zeros", "-tf"]);
            tar
        }
        Format::Tar => bail!("an archive is no package"),
    };
    let text = shell::query(list.arg(path))?;
    Ok(text.lines().map(relative).collect())
}

/// A path without what comes before the root.
fn relative(line: &str) -> PathBuf {
    let line = line.strip_prefix("./").unwrap_or(line);
    PathBuf::from(line.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::relative;
    use std::path::Path;

    #[test]
    fn relative_is_the_same_for_every_packager() {
        for line in [
            "./usr/bin/portguard",
            "/usr/bin/portguard",
            "usr/bin/portguard",
        ] {
            assert_eq!(relative(line), Path::new("usr/bin/portguard"));
        }
    }
}
