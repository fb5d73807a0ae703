//! The verbs `guest` and `soak`: one command in one guest.

use crate::vm::{self, GuestSpec};
use crate::{build, tools};
use anyhow::Result;
use std::process::ExitCode;
use std::time::Duration;

/// The verb `guest`: any command in a guest, with what has been built.
pub(crate) fn run(series: &str, systemd: bool, arguments: &[String]) -> Result<ExitCode> {
    tools::for_guests()?;
    let mut guest = GuestSpec::new(series, "guest", &[]);
    guest.arguments = arguments.to_vec();
    guest.systemd = systemd;
    guest.live = true;
    let ended = vm::boot(&guest)?;
    eprintln!("xtask: {:.1} s", ended.seconds);
    Ok(if ended.failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The verb `soak`.
pub(crate) fn soak(series: &str, minutes: u32) -> Result<ExitCode> {
    build::everything()?;
    tools::for_guests()?;
    let mut guest = GuestSpec::new(series, "soak", &["soak", "--minutes", &minutes.to_string()]);
    guest.live = true;
    guest.limit += Duration::from_secs(u64::from(minutes) * 60);
    let ended = vm::boot(&guest)?;
    Ok(if ended.failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
