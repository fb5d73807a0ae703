//! The status read from the pins, where no daemon runs.

use crate::kernel::error::KernelError;
use crate::kernel::maps::counters::Counts;
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::policy_map::KernelImage;
use crate::kernel::pins::manifest::{LinkMismatch, PinManifest};
use crate::kernel::pins::pin_directory::Pins;
use crate::kernel::pins::pin_paths::pinned_directory;
use crate::status::{Enforcing, Status};
use std::collections::BTreeMap;

/// The status of pinned enforcement; `None` where nothing is pinned.
///
/// # Errors
/// Where the pins cannot be opened or read: not root, or not this version's, or another user's.
pub fn pinned_status() -> Result<Option<Status>, KernelError> {
    if !Pins::exist()? {
        return Ok(None);
    }
    let directory = pinned_directory();
    let maps = Maps::pinned(&directory)?;
    let counts = Counts::read(&maps)?;
    let image = KernelImage::in_force(&maps)?;
    let manifest = PinManifest::read(&directory);
    let mut problems = match &manifest {
        Some(manifest) => texts(manifest.mismatches(&directory)),
        None => vec!["the pins were left by an unfinished start".to_owned()],
    };
    if image.is_none() {
        problems.push("no policy is in force".to_owned());
    }
    let policy = image
        .as_ref()
        .map(|image| image.description().policy.clone());
    let rules = match &image {
        Some(image) => image.hits(&maps)?,
        None => Vec::new(),
    };
    Ok(Some(Status {
        enforcing: Enforcing::of(policy.as_ref(), &problems),
        hook: manifest.map(|manifest| manifest.hook),
        daemon: None,
        kernel: crate::kernel::preflight::environment::release_text(),
        policy,
        rules,
        decisions: counts.decisions,
        dropped: BTreeMap::from(counts.dropped_by_reason()),
        events: None,
        programs: Vec::new(),
        reloads: None,
        pins: Some(directory.display().to_string()),
        problems,
        reattached: 0,
        fallback: None,
        violations: None,
        hardening: None,
    }))
}

fn texts(mismatches: Vec<LinkMismatch>) -> Vec<String> {
    mismatches.iter().map(ToString::to_string).collect()
}
