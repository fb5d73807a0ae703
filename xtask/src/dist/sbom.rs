//! The bill of materials, in the form of CycloneDX.

use super::release::Release;
use crate::{repo, shell, tools};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The name under which cargo-cyclonedx writes, into the directory of every crate of the workspace.
const NAME: &str = "xtask-dist";

/// Every crate that is linked into the program or runs while it is built, with its version, licence and checksum.
pub(super) fn cyclonedx(release: &Release) -> Result<String> {
    let written = Written(members()?);
    let mut cyclonedx = shell::command(tools::cargo_cyclonedx()?);
    cyclonedx.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    cyclonedx.args([
        "cyclonedx",
        "-qq",
        "--format",
        "json",
        "--spec-version",
        "1.5",
    ]);
    cyclonedx.args(["--features", "otlp"]);
    cyclonedx.args(["--override-filename", NAME, "--manifest-path"]);
    shell::run(cyclonedx.arg(repo::path("portguard/Cargo.toml")))?;
    let path = repo::path("portguard").join(format!("{NAME}.json"));
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    drop(written);
    // The directory of the checkout is of no use elsewhere, and differs between builds.
    Ok(text.replace(&repo::root().display().to_string(), "."))
}

/// The files that cargo-cyclonedx leaves in the checkout, removed when dropped.
struct Written(Vec<PathBuf>);

impl Drop for Written {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Where it writes: beside the manifest of each crate of the workspace.
fn members() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repo::root()).context("reading the checkout")? {
        let directory = entry?.path();
        if directory.join("Cargo.toml").is_file() {
            found.push(directory.join(format!("{NAME}.json")));
        }
    }
    Ok(found)
}
