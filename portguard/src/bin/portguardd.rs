//! The daemon: a program of its own, so that the process that runs as root has none of the command's crates.

use std::process::ExitCode;

fn main() -> ExitCode {
    portguard::run::main()
}
