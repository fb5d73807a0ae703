//! The packages, by nfpm from dist/nfpm.yaml.

use super::release::Release;
use super::target::{Format, Target};
use crate::{repo, shell, tools};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The description of all packages.
const CONFIG: &str = "dist/nfpm.yaml";

/// Packs the files below `tree`; the name of the package is its format's own.
pub(super) fn pack(
    target: Target,
    packager: &str,
    release: &Release,
    tree: &Path,
    into: &Path,
) -> Result<()> {
    // nfpm itself replaces variables too, but not in patterns.
    let config = fs::read_to_string(repo::path(CONFIG)).context("reading dist/nfpm.yaml")?;
    let config = config
        .replace("${ARCH}", target.debian())
        .replace("${VERSION}", &release.version)
        .replace("${TREE}", &tree.display().to_string());
    let filled = tree.with_extension("yaml");
    fs::write(&filled, config).with_context(|| format!("writing {}", filled.display()))?;
    let mut nfpm = shell::command(tools::nfpm()?);
    nfpm.args(["package", "--config"]).arg(&filled);
    nfpm.args(["--packager", packager, "--target"]).arg(into);
    nfpm.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    shell::run(&mut nfpm).with_context(|| format!("packing {packager} for {}", target.name()))
}

/// The name of the package that [`pack`] makes.
pub(super) fn name(format: Format, target: Target, version: &str) -> Option<String> {
    let machine = match target {
        Target::X86_64 | Target::X86_64Static => "x86_64",
        Target::Aarch64 => "aarch64",
    };
    match format {
        Format::Deb => Some(format!("portguard_{version}-1_{}.deb", target.debian())),
        Format::Rpm => Some(format!("portguard-{version}-1.{machine}.rpm")),
        Format::Apk => Some(format!("portguard_{version}-r1_{machine}.apk")),
        Format::Arch => Some(format!("portguard-{version}-1-{machine}.pkg.tar.zst")),
        Format::Tar => None,
    }
}
