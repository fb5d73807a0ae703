//! promtool, which tests Prometheus's rules.

use crate::{repo, shell};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// Debian's package. Not installed: it would start a server.
const PACKAGE: &str = "prometheus";

/// The path of promtool: installed, or fetched into target/tools.
///
/// # Errors
/// Where there is neither, nor an archive that has it.
pub(crate) fn promtool() -> Result<PathBuf> {
    if let Some(found) = shell::which("promtool") {
        return Ok(found);
    }
    let directory = repo::path("target/tools/prometheus");
    let path = directory.join("usr/bin/promtool");
    if path.is_file() {
        return Ok(path);
    }
    ensure!(
        shell::which("apt-get").is_some(),
        "promtool is not installed, and there is no apt to fetch it by"
    );
    std::fs::create_dir_all(&directory)?;
    let mut download = shell::command("apt-get");
    download
        .current_dir(&directory)
        .args(["-q", "download", PACKAGE]);
    shell::run(&mut download).context("fetching promtool; `apt-get update` may be needed")?;
    for entry in std::fs::read_dir(&directory)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            shell::run(
                shell::command("dpkg-deb")
                    .arg("-x")
                    .arg(&file)
                    .arg(&directory),
            )?;
            std::fs::remove_file(file)?;
        }
    }
    ensure!(path.is_file(), "Debian's {PACKAGE} has no promtool");
    Ok(path)
}
