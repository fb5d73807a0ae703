//! The files of a package that are made: manual pages, completions, schemas, copyright, changelogs.

use super::paths::work;
use super::release::Release;
use super::{notices, sbom};
use crate::{repo, shell};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// What the program prints, and the name of the file.
const PRINTED: &[(&str, &[&str])] = &[
    ("portguard.bash", &["completions", "bash"]),
    ("portguard.fish", &["completions", "fish"]),
    ("portguard.zsh", &["completions", "zsh"]),
    ("portguard-policy.schema.json", &["schema"]),
    ("portguard-event.schema.json", &["schema", "--event"]),
];

/// The directory of the documents.
pub(super) struct Documents(PathBuf);

impl Documents {
    /// Makes all of them by a program that runs on this machine.
    pub(super) fn make(program: &Path, release: &Release) -> Result<Self> {
        let documents = Self(work("documents"));
        let _ = fs::remove_dir_all(&documents.0);
        fs::create_dir_all(&documents.0)
            .with_context(|| format!("creating {}", documents.0.display()))?;
        for (name, arguments) in PRINTED {
            let text = shell::query(shell::command(program).args(*arguments))?;
            documents.write(name, &text)?;
        }
        let mut man = shell::command(program);
        shell::run(man.args(["man", "--directory"]).arg(&documents.0))?;
        for page in documents.files(|name| name.ends_with(".1") || name.ends_with(".5"))? {
            gzip(&documents.path(&page))?;
        }
        documents.write("copyright", &copyright()?)?;
        documents.write("THIRD-PARTY", &notices::text()?)?;
        documents.write(
            "changelog.Debian",
            &debian_changelog(&release.version, &release.date()?),
        )?;
        fs::copy(repo::path("CHANGELOG.md"), documents.path("changelog"))?;
        for name in ["THIRD-PARTY", "changelog.Debian", "changelog"] {
            gzip(&documents.path(name))?;
        }
        documents.write("portguard.cdx.json", &sbom::cyclonedx(release)?)?;
        Ok(documents)
    }

    /// The path of a document.
    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// The names of the manual pages, compressed.
    pub(super) fn manual_pages(&self) -> Result<Vec<OsString>> {
        let pages = self.files(|name| name.ends_with(".1.gz") || name.ends_with(".5.gz"))?;
        ensure!(!pages.is_empty(), "no manual pages in {}", self.0.display());
        Ok(pages)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        ensure!(!text.is_empty(), "{name} is empty");
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<OsString>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            if wanted(&name.to_string_lossy()) {
                found.push(name);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Compresses a file in its place, without its name and time.
fn gzip(path: &Path) -> Result<()> {
    shell::query(shell::command("gzip").args(["-9nf"]).arg(path)).map(|_| ())
}

/// In the form of Debian (DEP 5): our licences, and where those of the crates in the program are.
fn copyright() -> Result<String> {
    let mit = fs::read_to_string(repo::path("LICENSE-MIT")).context("reading LICENSE-MIT")?;
    let holder = mit
        .lines()
        .find_map(|line| line.strip_prefix("Copyright (c) "))
        .context("LICENSE-MIT names no holder")?;
    let body = mit
        .lines()
        .skip_while(|line| !line.starts_with("Permission"))
        .map(|line| {
            if line.is_empty() {
                " .".to_owned()
            } else {
                format!(" {line}")
            }
        });
    let body: Vec<String> = body.collect();
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: portguard\n\
         Comment: The program contains crates under licences of their own, which\n \
         /usr/share/doc/portguard/THIRD-PARTY.gz has with their notices.\n\n\
         Files: *\n\
         Copyright: {holder}\n\
         License: MIT or Apache-2.0\n\n\
         Files: portguard-ebpf/*\n\
         Copyright: {holder}\n\
         License: MIT or Apache-2.0 or GPL-2\n\
         Comment: The programs that the kernel loads.\n\n\
         License: MIT\n{}\n\n\
         License: Apache-2.0\n On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.\n\n\
         License: GPL-2\n On Debian systems, the text is in /usr/share/common-licenses/GPL-2.\n",
        body.join("\n")
    ))
}

/// The package's own changes are those of the program, which the other changelog has.
fn debian_changelog(version: &str, date: &str) -> String {
    format!(
        "portguard ({version}-1) unstable; urgency=medium\n\n  \
         * Version {version}: /usr/share/doc/portguard/changelog.gz has its changes.\n\n \
         -- The portguard authors <portguard@localhost>  {date}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copyright_has_the_text_of_the_licence() {
        let text = copyright().expect("a text");
        assert!(
            text.contains("Copyright: 2026 The portguard authors\n"),
            "{text}"
        );
        assert!(text.contains("\n .\n THE SOFTWARE IS PROVIDED"), "{text}");
    }

    #[test]
    fn debian_changelog_is_one_entry() {
        let text = debian_changelog("1.2.3", "Tue, 01 Dec 2026 02:24:04 +0000");
        assert!(text.starts_with("portguard (1.2.3-1) unstable; urgency="));
        assert!(text.ends_with("localhost>  Tue, 01 Dec 2026 02:24:04 +0000\n"));
    }
}
