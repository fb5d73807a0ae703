//! The file system of a guest with systemd: Debian's packages, the shipped unit and a service for the command.

use super::debian_archive::Archive;
use super::initrd::{self, Libraries};
use super::kernel::Kernel;
use super::{cache, modules};
use crate::build::Profile;
use crate::{repo, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Debian's suites by their code names, oldest first.
const SUITES: [&str; 4] = ["bookworm", "trixie", "forky", "sid"];

/// The suites whose systemd each kernel is booted with, in the order to try them.
const OF_KERNEL: [(&str, &[&str]); 5] = [
    ("5.10", &["bookworm"]),
    ("6.1", &["bookworm"]),
    ("6.12", &["trixie"]),
    ("6.18", &["trixie"]),
    ("7.2", &["sid", "forky"]),
];

/// systemd, and what it loads on demand.
const PACKAGES: [&str; 3] = ["systemd", "mount", "libseccomp2"];

/// The modules that a machine loads by itself when portguard lists sockets.
const MODULES: [&str; 3] = ["inet_diag", "tcp_diag", "udp_diag"];

/// What no guest needs.
const UNWANTED: [&str; 8] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/perl5",
    "usr/share/i18n",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/udev",
    "usr/lib/systemd/system/sysinit.target.wants",
];

/// Files of the guest and their paths.
const FILES: [(&str, &str); 7] = [
    (
        "etc/systemd/system/modules.service",
        include_str!("modules.service"),
    ),
    (
        "etc/systemd/system/guest.service",
        include_str!("guest.service"),
    ),
    (
        "etc/systemd/system/default.target",
        include_str!("default.target"),
    ),
    ("etc/systemd/system.conf", include_str!("system.conf")),
    (
        "etc/portguard/policies/10-guest.yaml",
        include_str!("policy.yaml"),
    ),
    ("guest.sh", include_str!("guest.sh")),
    // Without it this would be a first boot, at which systemd enables units and asks questions.
    ("etc/machine-id", "706f7274677561726467756573740001\n"),
];

/// Packs the files that all guests with systemd and a kernel have in common.
pub(super) fn common(series: &str, kernel: &Kernel, profile: Profile) -> Result<PathBuf> {
    let packages = fetch(series)?;
    let tree = cache::directory()
        .join("tree")
        .join(format!("{series}-systemd"));
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(cache::directory().join("tree"))?;
    shell::run(shell::command("cp").arg("-a").arg(&packages).arg(&tree))?;
    for (path, text) in FILES {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&tree))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    initrd::identities(&tree)?;
    initrd::programs(&tree, profile, Libraries::OfTheTree)?;
    let units = tree.join("etc/systemd/system");
    fs::copy(
        repo::path("dist/systemd/portguard.service"),
        units.join("portguard.service"),
    )
    .context("copying the unit")?;
    // What `systemctl enable` does.
    let wants = units.join("sysinit.target.wants");
    fs::create_dir_all(&wants)?;
    symlink("../portguard.service", wants.join("portguard.service"))?;
    let order = modules::copy(&kernel.modules, &tree.join("modules"), &MODULES)?;
    fs::write(tree.join("etc/modules-load"), order.join("\n") + "\n")?;
    symlink("../modules.service", wants.join("modules.service"))?;
    symlink("busybox", tree.join("usr/bin/sh"))?;
    symlink("usr/lib/systemd/systemd", tree.join("init"))?;
    initrd::pack(
        &tree,
        &cache::directory().join(format!("{series}.systemd.cpio")),
    )
}

/// The unpacked packages for a kernel, fetched unless they are in the cache.
pub(super) fn fetch(series: &str) -> Result<PathBuf> {
    let wanted = OF_KERNEL.iter().find(|(known, _)| *known == series);
    let Some((_, suites)) = wanted else {
        bail!("no suite is listed for the systemd of guests with kernel {series}");
    };
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut failure = None;
    for suite in suites.iter().map(|suite| not_before_host(suite, &os)) {
        match fetch_from(&suite) {
            Ok(tree) => return Ok(tree),
            Err(error) => {
                eprintln!("xtask: no systemd from {suite}: {error:#}");
                failure = Some(error);
            }
        }
    }
    Err(failure.context("no suite is listed for systemd")?)
}

/// The suite, or that of this machine if it is newer: the programs are linked to the libc of this machine.
fn not_before_host(suite: &str, os_release: &str) -> String {
    let host = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'));
    let rank = |name: &str| SUITES.iter().position(|suite| *suite == name);
    match host {
        Some(host) if rank(host) > rank(suite) => host.to_owned(),
        _ => suite.to_owned(),
    }
}

/// The suite for a kernel: the first that is listed, or that of this machine if it is newer.
pub(super) fn suite(series: &str) -> Result<String> {
    let listed = OF_KERNEL.iter().find(|(known, _)| *known == series);
    let first = listed.and_then(|(_, suites)| suites.first());
    let first = first.with_context(|| format!("no suite is listed for kernel {series}"))?;
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    Ok(not_before_host(first, &os))
}

/// Fetches the packages of a suite into the cache, all of them or none.
fn fetch_from(suite: &str) -> Result<PathBuf> {
    let home = cache::directory().join("systemd").join(suite);
    if home.is_dir() {
        return Ok(home);
    }
    let work = cache::directory()
        .join("fetch")
        .join(format!("systemd-{suite}"));
    let _ = fs::remove_dir_all(&work);
    let archive = Archive::open(&work, suite)?;
    let tree = work.join("tree");
    merged(&tree)?;
    let count = archive.unpack_with_dependencies(&PACKAGES, &tree)?;
    for unwanted in UNWANTED {
        let _ = fs::remove_dir_all(tree.join(unwanted));
    }
    fs::create_dir_all(home.parent().unwrap_or(&home))?;
    fs::rename(&tree, &home).with_context(|| format!("filling {}", home.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    eprintln!("xtask: systemd of {suite} and its dependencies: {count} packages");
    Ok(home)
}

/// Creates the directories of a file system whose `/bin`, `/sbin` and `/lib` are links into `/usr`.
fn merged(tree: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(tree.join("usr").join(name))?;
        symlink(format!("usr/{name}"), tree.join(name))?;
    }
    for name in ["dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp"] {
        fs::create_dir_all(tree.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suite_is_not_older_than_the_machine() {
        let os = |name: &str| format!("ID=debian\nVERSION_CODENAME={name}\n");
        assert_eq!(not_before_host("bookworm", &os("bookworm")), "bookworm");
        assert_eq!(not_before_host("bookworm", &os("trixie")), "trixie");
        assert_eq!(not_before_host("sid", &os("trixie")), "sid");
        assert_eq!(not_before_host("trixie", &os("noble")), "trixie");
        assert_eq!(not_before_host("trixie", ""), "trixie");
    }

    #[test]
    fn every_kernel_has_a_suite() {
        for series in super::super::kernel::all() {
            assert!(OF_KERNEL.iter().any(|(known, _)| *known == series));
        }
    }
}
