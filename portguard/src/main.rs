//! The `portguard` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    portguard::cli::main()
}
