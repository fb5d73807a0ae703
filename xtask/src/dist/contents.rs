//! The files of a package: where each comes from, where it is installed, and in which formats.

use super::documents::Documents;
use super::program::Programs;
use super::release::Release;
use super::target::Format;
use crate::repo;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// The command.
    Command,
    /// The daemon.
    Daemon,
    /// A file of the checkout.
    Checkout(&'static str),
    /// A document that [`Documents`] makes.
    Document(&'static str),
}

/// A file of a package.
struct Item {
    from: From,
    to: &'static str,
    mode: u32,
    only: &'static [Format],
}

use Format::{Apk, Arch, Deb, Rpm, Tar};

/// All formats.
const ALL: &[Format] = &[Deb, Rpm, Apk, Arch, Tar];

/// Those for hosts with systemd; Alpine has OpenRC.
const SYSTEMD: &[Format] = &[Deb, Rpm, Arch, Tar];

const fn file(from: &'static str, to: &'static str, only: &'static [Format]) -> Item {
    item(From::Checkout(from), to, 0o644, only)
}

const fn document(from: &'static str, to: &'static str, only: &'static [Format]) -> Item {
    item(From::Document(from), to, 0o644, only)
}

const fn executable(from: From, to: &'static str, only: &'static [Format]) -> Item {
    item(from, to, 0o755, only)
}

const fn item(from: From, to: &'static str, mode: u32, only: &'static [Format]) -> Item {
    Item {
        from,
        to,
        mode,
        only,
    }
}

/// The files, but for the manual pages: their number is that of the commands.
#[rustfmt::skip]
const ITEMS: &[Item] = &[
    executable(From::Command, "usr/bin/portguard", ALL),
    // Not on the PATH: `portguard run` starts it.
    executable(From::Daemon, "usr/lib/portguard/portguardd", ALL),
    executable(From::Checkout("dist/package-scripts"), "usr/lib/portguard/package-scripts", &[Deb, Rpm, Apk, Arch]),
    file("dist/systemd/portguard.service", "usr/lib/systemd/system/portguard.service", SYSTEMD),
    file("dist/systemd/portguard.preset", "usr/lib/systemd/system-preset/90-portguard.preset", SYSTEMD),
    file("dist/systemd/portguard.sysusers", "usr/lib/sysusers.d/portguard.conf", SYSTEMD),
    file("dist/systemd/portguard.tmpfiles", "usr/lib/tmpfiles.d/portguard.conf", SYSTEMD),
    file("dist/systemd/portguard.catalog", "usr/lib/systemd/catalog/portguard.catalog", SYSTEMD),
    file("dist/policies/default.yaml", "usr/lib/portguard/policies/default.yaml", ALL),
    file("dist/default/portguard", "etc/default/portguard", ALL),
    file("dist/logrotate/portguard", "etc/logrotate.d/portguard", ALL),
    file("dist/examples/file-sink.conf", "usr/share/doc/portguard/examples/file-sink.conf", SYSTEMD),
    file("dist/examples/socket-group.conf", "usr/share/doc/portguard/examples/socket-group.conf", SYSTEMD),
    file("policies/default.yaml", "usr/share/doc/portguard/examples/first-run.yaml", ALL),
    file("policies/web-server.yaml", "usr/share/doc/portguard/examples/web-server.yaml", ALL),
    file("policies/shared-host.yaml", "usr/share/doc/portguard/examples/shared-host.yaml", ALL),
    file("dist/prometheus/portguard.rules.yml", "usr/share/portguard/prometheus/portguard.rules.yml", ALL),
    file("dist/grafana/portguard.json", "usr/share/portguard/grafana/portguard.json", ALL),
    document("portguard-policy.schema.json", "usr/share/portguard/schemas/portguard-policy.schema.json", ALL),
    document("portguard-event.schema.json", "usr/share/portguard/schemas/portguard-event.schema.json", ALL),
    document("portguard.bash", "usr/share/bash-completion/completions/portguard", ALL),
    document("portguard.fish", "usr/share/fish/vendor_completions.d/portguard.fish", ALL),
    document("portguard.zsh", "usr/share/zsh/vendor-completions/_portguard", &[Deb]),
    document("portguard.zsh", "usr/share/zsh/site-functions/_portguard", &[Rpm, Apk, Arch, Tar]),
    document("copyright", "usr/share/doc/portguard/copyright", ALL),
    document("THIRD-PARTY.gz", "usr/share/doc/portguard/THIRD-PARTY.gz", ALL),
    document("portguard.cdx.json", "usr/share/doc/portguard/portguard.cdx.json", ALL),
    document("changelog.gz", "usr/share/doc/portguard/changelog.gz", ALL),
    document("changelog.Debian.gz", "usr/share/doc/portguard/changelog.Debian.gz", &[Deb]),
    file("dist/deb/lintian-overrides", "usr/share/lintian/overrides/portguard", &[Deb]),
    file("LICENSE-MIT", "usr/share/licenses/portguard/LICENSE-MIT", &[Rpm, Apk, Arch, Tar]),
    file("LICENSE-APACHE", "usr/share/licenses/portguard/LICENSE-APACHE", &[Rpm, Apk, Arch, Tar]),
    file("LICENSE-GPL2", "usr/share/licenses/portguard/LICENSE-GPL2", &[Rpm, Apk, Arch, Tar]),
    file("dist/tar/INSTALL", "INSTALL", &[Tar]),
];

/// Puts the files of a format below an empty directory, as they are installed.
pub(super) fn stage(
    format: Format,
    programs: &Programs,
    documents: &Documents,
    release: &Release,
    tree: &Path,
) -> Result<()> {
    let _ = fs::remove_dir_all(tree);
    for item in ITEMS.iter().filter(|item| item.only.contains(&format)) {
        let from = match item.from {
            From::Command => programs.command.stripped.clone(),
            From::Daemon => programs.daemon.stripped.clone(),
            From::Checkout(path) => repo::path(path),
            From::Document(name) => documents.path(name),
        };
        install(&from, &tree.join(item.to), item.mode)?;
    }
    for page in documents.manual_pages()? {
        let section = if page.to_string_lossy().ends_with(".5.gz") {
            "man5"
        } else {
            "man1"
        };
        let to = tree.join("usr/share/man").join(section);
        install(&documents.path(&page), &to.join(&page), 0o644)?;
    }
    date(tree, release.time())
}

/// Gives all files below a directory, and those themselves, one time: packages have it in them.
fn date(directory: &Path, time: SystemTime) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            date(&entry.path(), time)?;
        } else {
            fs::File::open(entry.path())?.set_modified(time)?;
        }
    }
    let dated = fs::File::open(directory).and_then(|open| open.set_modified(time));
    dated.with_context(|| format!("setting the time of {}", directory.display()))
}

/// Copies a file, with the directories above it, whatever the umask is.
fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let above = to.parent().unwrap_or(to);
    fs::create_dir_all(above).with_context(|| format!("creating {}", above.display()))?;
    fs::copy(from, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", to.display()))
}

/// The paths that a package of this format has for certain, manual pages aside.
pub(super) fn paths(format: Format) -> Vec<PathBuf> {
    let items = ITEMS.iter().filter(|item| item.only.contains(&format));
    items.map(|item| PathBuf::from(item.to)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_from_files_that_exist() {
        for item in ITEMS {
            if let From::Checkout(path) = item.from {
                assert!(repo::path(path).is_file(), "{path}");
            }
        }
    }

    #[test]
    fn contents_are_what_an_administrator_looks_for() {
        for format in [Deb, Rpm, Arch] {
            let paths = paths(format);
            for wanted in [
                "usr/bin/portguard",
                "usr/lib/portguard/portguardd",
                "usr/lib/systemd/system/portguard.service",
                "usr/lib/systemd/system-preset/90-portguard.preset",
                "usr/lib/sysusers.d/portguard.conf",
                "usr/lib/tmpfiles.d/portguard.conf",
                "usr/lib/systemd/catalog/portguard.catalog",
                "usr/lib/portguard/policies/default.yaml",
                "etc/default/portguard",
                "etc/logrotate.d/portguard",
                "usr/share/portguard/prometheus/portguard.rules.yml",
                "usr/share/portguard/grafana/portguard.json",
                "usr/share/portguard/schemas/portguard-policy.schema.json",
                "usr/share/bash-completion/completions/portguard",
                "usr/share/doc/portguard/copyright",
                "usr/share/doc/portguard/changelog.gz",
            ] {
                assert!(
                    paths.contains(&PathBuf::from(wanted)),
                    "{format:?}: {wanted}"
                );
            }
        }
    }

    #[test]
    fn contents_have_each_path_once() {
        for format in ALL {
            let mut paths = paths(*format);
            let all = paths.len();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), all, "{format:?}");
        }
    }

    #[test]
    fn alpine_gets_nothing_of_systemd() {
        let systemd = |path: &PathBuf| path.to_string_lossy().contains("systemd");
        assert!(!paths(Apk).iter().any(systemd));
    }
}
