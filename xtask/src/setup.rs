//! The verb `setup`: all that any other verb needs, printed line by line.

use crate::vm::{cache, kernel};
use crate::{shell, tools};
use anyhow::Result;
use std::process::ExitCode;

/// The verb `setup`.
pub(crate) fn run() -> Result<ExitCode> {
    let core = tools::for_building()?;
    println!("BPF core library: {core}");
    println!("bpf-linker: {}", tools::linker_path().display());
    tools::for_guests()?;
    tools::for_native()?;
    for program in tools::programs() {
        let found = shell::which(program).unwrap_or_default();
        println!("{program}: {}", found.display());
    }
    cache::lock()?;
    for series in kernel::all() {
        println!(
            "kernel {series}: {}",
            kernel::fetch(series)?.image.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
