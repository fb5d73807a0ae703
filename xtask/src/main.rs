//! `cargo xtask`: sets up, builds, runs and tests portguard.

mod bench;
mod build;
mod fuzz;
mod guest;
mod repo;
mod report;
mod run;
mod setup;
mod shell;
mod test;
mod tools;
mod verify;
mod vm;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// Sets up, builds, runs and tests portguard.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Finds or installs what building and testing need (the other verbs do so by themselves)
    Setup,
    /// Builds the eBPF object, and then the programs
    Build,
    /// Builds, and runs portguard as root with policies/default.yaml or another policy
    Run {
        /// In a guest with this kernel (5.10, 6.1, 6.12, 6.18, 7.2), where the BPF LSM enforces
        #[arg(long, value_name = "SERIES")]
        vm: Option<String>,
        /// Arguments of `portguard run`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Runs the tests: all of them, or those named
    Test(TestArgs),
    /// Loads every program into every kernel and counts the instructions that were verified
    Verify {
        /// Only these kernels
        #[arg(long, value_name = "SERIES", num_args = 1..)]
        vm: Vec<String>,
    },
    /// Runs any command in a guest, with the programs as they were built last
    Guest {
        /// The kernel
        series: String,
        /// With systemd as its first process, and portguard started by the shipped unit
        #[arg(long)]
        systemd: bool,
        /// The command, `sh -c ...` for more than one
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Feeds random input to what reads policies, records of the ring buffer and BTF
    Fuzz {
        /// Only this target: policy, event or btf
        target: Option<String>,
        /// How long each target runs
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
    },
    /// Binds at full load in a guest, with reloads, restarts and kills: sums must be exact, memory flat
    Soak {
        /// The kernel
        #[arg(long, value_name = "SERIES", default_value = "6.12")]
        vm: String,
        /// How long
        #[arg(long, value_name = "N", default_value_t = 20)]
        minutes: u32,
    },
    /// Measures the cost of a decision, in guest instructions
    Bench {
        /// The kernel
        #[arg(long, value_name = "SERIES", default_value = "6.12")]
        vm: String,
    },
}

/// Which tests.
#[derive(Args)]
struct TestArgs {
    /// Only the guests with these kernels
    #[arg(long, value_name = "SERIES", num_args = 1..)]
    vm: Vec<String>,
    /// Only the tests on this machine's own kernel, as root
    #[arg(long)]
    native: bool,
    /// Of the native tests and those in guests, only those whose name contains this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Only the attack suite, in the guests
    #[arg(long, conflicts_with_all = ["native", "filter"])]
    attack: bool,
}

impl From<TestArgs> for test::Selection {
    fn from(args: TestArgs) -> Self {
        Self {
            vm: args.vm,
            native: args.native,
            filter: if args.attack {
                Some("attack_".to_owned())
            } else {
                args.filter
            },
            guests: args.attack,
        }
    }
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    match repo::locate().and_then(|()| run(verb)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Setup => setup::run(),
        Verb::Build => build::run(),
        Verb::Run { vm: None, args } => run::here(&args),
        Verb::Run {
            vm: Some(series),
            args,
        } => run::in_guest(&series, &args),
        Verb::Test(args) => test::run(&args.into()),
        Verb::Verify { vm } => verify::run(&vm),
        Verb::Guest {
            series,
            systemd,
            command,
        } => guest::run(&series, systemd, &command),
        Verb::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Verb::Soak { vm, minutes } => guest::soak(&vm, minutes),
        Verb::Bench { vm } => bench::run(&vm),
    }
}
