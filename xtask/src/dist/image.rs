//! The container image: the static programs and its default policy, as an OCI archive.

use super::contents;
use super::documents::Documents;
use super::paths::{artefacts, work};
use super::program::Programs;
use super::release::Release;
use super::target::{Format, Target};
use crate::{shell, tools};
use anyhow::{Context, Result};
use std::fs;
use std::process::Command;

/// What of the archive's files is of use in a container.
const KEPT: [&str; 3] = ["usr/bin", "usr/lib/portguard", "usr/share/doc/portguard"];

/// Directories that are mounted or written.
const DIRECTORIES: [&str; 5] = [
    "etc/portguard/policies",
    "run/portguard",
    "var/lib/portguard",
    "sys/fs/cgroup",
    "sys/fs/bpf",
];

/// Makes the image by buildah, without running anything in it.
pub(super) fn make(
    target: Target,
    programs: &Programs,
    documents: &Documents,
    release: &Release,
) -> Result<()> {
    tools::install_program("buildah", &["buildah"])?;
    let whole = work(target.name()).join("image-files");
    contents::stage(Format::Tar, programs, documents, release, &whole)?;
    let tree = work(target.name()).join("image");
    let _ = fs::remove_dir_all(&tree);
    for kept in KEPT {
        let to = tree.join(kept);
        fs::create_dir_all(to.parent().unwrap_or(&tree))?;
        fs::rename(whole.join(kept), &to).with_context(|| format!("moving {kept}"))?;
    }
    for directory in DIRECTORIES {
        fs::create_dir_all(tree.join(directory))?;
    }
    let name = format!("portguard-{}-{}.oci.tar", release.version, target.name());
    let archive = artefacts().join(name);
    let container = shell::output(buildah().args(["from", "scratch"]))?;
    let container = container.trim();
    let made = fill(container, &tree, release, &archive.display().to_string());
    shell::run(buildah().args(["rm", container]))?;
    made
}

/// Fills a container and writes it as an image.
fn fill(container: &str, tree: &std::path::Path, release: &Release, archive: &str) -> Result<()> {
    let mut copy = buildah();
    copy.args(["copy", "--chown", "0:0", container]);
    shell::run(copy.arg(tree).arg("/"))?;
    let mut config = buildah();
    config.args(["config", "--user", "0:0", "--stop-signal", "SIGTERM"]);
    config.args(["--entrypoint", "[\"/usr/bin/portguard\"]", "--cmd", "run"]);
    let label =
        |name: &str, value: &str| format!("--label=org.opencontainers.image.{name}={value}");
    config.arg(label("title", "portguard"));
    config.arg(label("version", &release.version));
    config.arg(label("licenses", "MIT OR Apache-2.0"));
    shell::run(config.arg(container))?;
    let mut commit = buildah();
    commit.args(["commit", "--quiet", "--format", "oci", "--timestamp"]);
    commit.arg(release.epoch.to_string());
    let reference = format!("oci-archive:{archive}:portguard:{}", release.version);
    shell::run(commit.args([container, &reference]))
}

/// buildah with storage of its own, which needs neither overlayfs nor the settings of this machine.
fn buildah() -> Command {
    let mut buildah = shell::as_root("buildah");
    let storage = work("containers");
    buildah
        .args(["--storage-driver", "vfs", "--root"])
        .arg(storage.join("root"));
    buildah.arg("--runroot").arg(storage.join("run"));
    buildah
}
