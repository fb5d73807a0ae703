//! `portguard doctor`.

use crate::harness::instance::{policy_file, program};
use std::process::Command;

/// Its stdout, with a policy or without.
pub(crate) fn doctor(policy: Option<&str>) -> anyhow::Result<String> {
    let file = policy.map(policy_file).transpose()?;
    let mut doctor = Command::new(program());
    doctor.arg("doctor");
    if let Some(file) = &file {
        doctor.arg("--policy").arg(file.path());
    }
    let output = doctor.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
