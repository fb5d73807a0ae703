//! Packages of another Debian suite, fetched without changing the apt settings of this machine.

use super::apt_sources;
use crate::{report, shell};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package lists of one suite, in their own directory.
pub(super) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Fetches the package lists of a suite.
    pub(super) fn open(directory: &Path, suite: &str) -> Result<Self> {
        let source = apt_sources::debian()
            .context("no source in /etc/apt is the Debian archive (a URI that ends in /debian)")?;
        for part in ["lists/partial", "archives/partial", "parts", "packages"] {
            std::fs::create_dir_all(directory.join(part))?;
        }
        std::fs::write(directory.join("suite.sources"), source.deb822(suite))?;
        std::fs::write(directory.join("status"), "")?;
        std::fs::write(directory.join("apt.conf"), settings(directory))?;
        let archive = Self {
            directory: directory.to_path_buf(),
        };
        let bar = report::progress(format!("package lists of {suite}"));
        let update = shell::output(archive.apt("apt-get").args(["-q", "update"]));
        bar.finish_and_clear();
        update?;
        Ok(archive)
    }

    /// The names of the packages with this prefix.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = shell::output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Fetches packages and unpacks them into a directory.
    pub(super) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let bar = report::progress(format!("fetching {}", packages.join(" ")));
        let mut download = self.apt("apt-get");
        download.current_dir(self.directory.join("packages"));
        let fetched = shell::output(download.args(["-q", "download"]).args(packages));
        bar.finish_and_clear();
        fetched?;
        let mut unpacked = 0;
        for file in std::fs::read_dir(self.directory.join("packages"))? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                shell::run(shell::command("dpkg-deb").arg("-x").arg(file).arg(into))?;
                unpacked += 1;
            }
        }
        ensure!(
            unpacked == packages.len(),
            "unpacked {unpacked} packages for {}",
            packages.join(" ")
        );
        Ok(())
    }

    /// Fetches packages with their dependencies and unpacks them into a directory; returns how many.
    pub(super) fn unpack_with_dependencies(&self, packages: &[&str], into: &Path) -> Result<usize> {
        let bar = report::progress(format!("fetching {}", packages.join(" ")));
        let mut install = self.apt("apt-get");
        install.args(["-q", "-y", "--no-install-recommends", "--download-only"]);
        let fetched = shell::output(install.arg("install").args(packages));
        bar.finish_and_clear();
        fetched?;
        let mut unpacked = 0;
        for file in std::fs::read_dir(self.directory.join("archives"))? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                // dpkg-deb -x would replace links such as /lib by directories.
                let line =
                    "dpkg-deb --fsys-tarfile \"$1\" | tar -x --keep-directory-symlink -C \"$2\"";
                let mut bash = shell::command("bash");
                bash.args(["-o", "pipefail", "-c", line, "unpack"]);
                shell::run(bash.arg(&file).arg(into))?;
                unpacked += 1;
            }
        }
        ensure!(
            unpacked >= packages.len(),
            "unpacked {unpacked} packages for {}",
            packages.join(" ")
        );
        Ok(unpacked)
    }

    /// apt with only the keys and the network settings of this machine.
    fn apt(&self, program: &str) -> Command {
        let mut apt = shell::command(program);
        apt.env("APT_CONFIG", self.directory.join("apt.conf"));
        apt
    }
}

/// The settings that make apt keep everything in one directory.
fn settings(directory: &Path) -> String {
    let own = |name: &str| directory.join(name).display().to_string();
    let settings = [
        ("Dir::State::Lists", own("lists")),
        ("Dir::State::status", own("status")),
        ("Dir::Cache", own("")),
        ("Dir::Cache::archives", own("archives")),
        ("Dir::Cache::pkgcache", String::new()),
        ("Dir::Cache::srcpkgcache", String::new()),
        ("Dir::Etc::SourceList", own("suite.sources")),
        ("Dir::Etc::SourceParts", own("parts")),
        ("APT::Architecture", "amd64".to_owned()),
        ("APT::Sandbox::User", "root".to_owned()),
        ("Acquire::Check-Valid-Until", "false".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
    ];
    settings
        .iter()
        .map(|(name, value)| format!("{name} \"{value}\";\n"))
        .collect()
}
