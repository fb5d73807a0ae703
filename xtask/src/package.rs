//! The verb `package`: the life of the .deb, from installation to purge, in a guest.

use crate::build::{self, Profile};
use crate::vm::{GuestSpec, disk};
use crate::{dist, repo, results, shell, tools};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the guest has the program that tests.
const TESTS: &str = "usr/local/bin/portguard-itest";

/// The verb.
pub(crate) fn run(series: &str, no_build: bool) -> Result<ExitCode> {
    if !no_build {
        build::everything(Profile::Release)?;
    }
    tools::for_guests()?;
    tools::install_program("mke2fs", &["e2fsprogs"])?;
    let mut guest = GuestSpec::new(series, "package", &[]);
    guest.arguments = vec![format!("/{TESTS}"), "package".to_owned()];
    guest.live = true;
    guest.files.push((tests()?, TESTS.to_owned()));
    for (path, name) in dist::versions_for_tests()? {
        guest.files.push((path, format!("packages/{name}.deb")));
    }
    let result = disk::boot(guest)?;
    eprintln!("xtask: the guest took {:.1} s", result.seconds);
    if let Some(failure) = &result.failure {
        eprintln!("xtask: {failure}");
    }
    // After the reboot, which none of the tests before it lets happen if it fails.
    let count = results::final_count(&result.output).context("the tests did not finish")?;
    Ok(if result.failure.is_none() && count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The program that tests, without its debug symbols.
fn tests() -> Result<PathBuf> {
    let stripped = repo::path("target/vm/portguard-itest");
    std::fs::create_dir_all(repo::path("target/vm"))?;
    let mut strip = shell::command("strip");
    shell::run(
        strip
            .arg("-o")
            .arg(&stripped)
            .arg(Profile::Release.program(build::TESTS)),
    )?;
    Ok(stripped)
}
