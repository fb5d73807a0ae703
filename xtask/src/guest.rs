//! The verbs `guest` and `soak`: one command in one guest.

use crate::build::{self, Profile};
use crate::tools;
use crate::vm::{self, GuestSpec};
use anyhow::Result;
use std::process::ExitCode;
use std::time::Duration;

/// The verb `guest`: any command, with the programs that are built.
pub(crate) fn run(series: &str, systemd: bool, arguments: &[String]) -> Result<ExitCode> {
    tools::for_guests()?;
    let mut guest = GuestSpec::new(series, "guest", &[]);
    guest.arguments = arguments.to_vec();
    guest.systemd = systemd;
    live(guest)
}

/// The verb `soak`.
pub(crate) fn soak(series: &str, minutes: u32) -> Result<ExitCode> {
    build::everything(Profile::Release)?;
    tools::for_guests()?;
    let mut guest = GuestSpec::new(series, "soak", &["soak", "--minutes", &minutes.to_string()]);
    guest.limit += Duration::from_secs(u64::from(minutes) * 60);
    live(guest)
}

/// Boots a guest and prints its console while it runs; succeeds if its command did.
pub(crate) fn live(mut guest: GuestSpec) -> Result<ExitCode> {
    guest.live = true;
    let result = vm::boot(&guest)?;
    eprintln!("xtask: the guest took {:.1} s", result.seconds);
    Ok(if result.failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
