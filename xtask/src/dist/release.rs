//! What a release is named by: the version of the workspace and the time of its commit.

use crate::shell;
use anyhow::{Context, Result};
use std::time::{Duration, SystemTime};

/// The version and the time that all artefacts carry.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// The version of the workspace.
    pub(super) version: String,
    /// Seconds since the epoch: `SOURCE_DATE_EPOCH`, or the time of the commit.
    pub(super) epoch: u64,
}

impl Release {
    /// That of the checkout.
    pub(super) fn of_checkout() -> Result<Self> {
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(set) => set,
            Err(_) => shell::query(shell::command("git").args(["log", "-1", "--format=%ct"]))
                .context(
                    "the time of the commit; set SOURCE_DATE_EPOCH where there is no repository",
                )?,
        };
        Ok(Self {
            version: version()?,
            epoch: epoch
                .trim()
                .parse()
                .context("SOURCE_DATE_EPOCH is not a number")?,
        })
    }

    /// The time.
    pub(super) fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.epoch)
    }

    /// The date, as Debian's changelogs write it.
    pub(super) fn date(&self) -> Result<String> {
        let mut date = shell::command("date");
        date.env("LC_ALL", "C").args(["-u", "-R", "-d"]);
        let date = shell::query(date.arg(format!("@{}", self.epoch)))?;
        Ok(date.trim().to_owned())
    }
}

/// The version of the workspace.
pub(crate) fn version() -> Result<String> {
    let mut cargo = shell::cargo(&["metadata", "--no-deps", "--format-version=1"]);
    let metadata: serde_json::Value = serde_json::from_str(&shell::query(&mut cargo)?)?;
    let packages = metadata["packages"].as_array();
    let packages = packages.into_iter().flatten();
    let mut versions = packages
        .filter(|package| package["name"] == "portguard")
        .filter_map(|package| package["version"].as_str());
    versions
        .next()
        .map(str::to_owned)
        .context("cargo metadata names no package portguard")
}
