//! `cargo xtask`: sets up, builds, runs and tests portguard.

mod baseline;
mod bench;
mod build;
mod dist;
mod docs;
mod fuzz;
mod guest;
mod package;
mod performance_page;
mod release;
mod repo;
mod report;
mod results;
mod run;
mod setup;
mod shell;
mod test;
mod tools;
mod verify;
mod vm;

use anyhow::Result;
use baseline::Mode;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
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
    /// Find or install what building and testing need (the other verbs do so by themselves)
    Setup,
    /// Build the eBPF objects, then the programs
    Build,
    /// Build and run portguard as root with policies/default.yaml or another policy
    Run {
        /// Run in a guest with this kernel (5.10, 6.1, 6.12, 6.18, 7.2), where the BPF LSM enforces
        #[arg(long, value_name = "SERIES")]
        vm: Option<String>,
        /// Arguments of `portguard run`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run the tests: all of them, or some
    Test(TestArgs),
    /// Load every program into every kernel and count the instructions that the verifier checks
    Verify {
        /// Only these kernels
        #[arg(long, value_name = "SERIES", num_args = 1..)]
        vm: Vec<String>,
        #[command(flatten)]
        mode: ModeArgs,
    },
    /// Run a command in a guest with the programs that are built
    Guest {
        /// The kernel
        series: String,
        /// Boot systemd, and start portguard by the shipped unit
        #[arg(long)]
        systemd: bool,
        /// The command; `sh -c ...` for several
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Fuzz the parsers of policies, ring buffer records and BTF
    Fuzz {
        /// Only this target: policy, event or btf
        target: Option<String>,
        /// How long each target runs
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
    },
    /// Bind at full load in a guest, with reloads, restarts and kills: sums must be exact, memory flat
    Soak {
        /// The kernel
        #[arg(long, value_name = "SERIES", default_value = "6.12")]
        vm: String,
        /// How long
        #[arg(long, value_name = "N", default_value_t = 20)]
        minutes: u32,
    },
    /// Make packages, archives, debug symbols, the bill of materials, checksums and the container image, in target/dist
    ///
    /// Builds for each target with all optimisations, which takes minutes each, and fetches what it builds with.
    Dist {
        /// Only for these
        #[arg(long, value_name = "TARGET", num_args = 1..)]
        target: Vec<dist::Target>,
        /// Only the static program and the container image
        #[arg(long, conflicts_with = "target")]
        image: bool,
        /// Pack the programs of this directory and build none, to try the packages
        #[arg(long, value_name = "DIRECTORY", conflicts_with = "image")]
        programs: Option<PathBuf>,
    },
    /// Check what a release needs: the changelog, the versions, schemas and recorded figures
    Release {
        /// There is nothing else it does
        #[arg(long, required = true)]
        check: bool,
    },
    /// Make the site of the documents, in target/dist/site; builds mdBook the first time
    Docs,
    /// Install, upgrade, break, reboot, remove and purge the .deb of `dist` in a guest with Debian, as root
    ///
    /// Linux 6.1 is booted with Debian 12, Linux 6.12 with Debian 13. Fetches that Debian, some 250 MB, once.
    Package {
        /// The kernel
        #[arg(long, value_name = "SERIES", default_value = "6.12")]
        vm: String,
        /// With the portguard-itest that is built
        #[arg(long)]
        no_build: bool,
    },
    /// Measure the cost of a decision, in instructions of a guest
    Bench {
        /// The kernel
        #[arg(long, value_name = "SERIES", default_value = "6.12")]
        vm: String,
        /// Only rows of portguard whose name contains this
        #[arg(long, value_name = "TEXT", conflicts_with_all = ["record", "compare"])]
        only: Option<String>,
        #[command(flatten)]
        mode: ModeArgs,
    },
}

/// What to do with figures.
#[derive(Args)]
struct ModeArgs {
    /// Compare with the figures in docs/baseline, and fail if one is more than 3 % worse
    #[arg(long)]
    compare: bool,
    /// Write the figures into docs/baseline and docs/performance.md
    #[arg(long, conflicts_with = "compare")]
    record: bool,
}

impl From<ModeArgs> for Mode {
    fn from(args: ModeArgs) -> Self {
        match (args.compare, args.record) {
            (true, _) => Self::Compare,
            (_, true) => Self::Record,
            _ => Self::Print,
        }
    }
}

/// Which tests.
#[derive(Args)]
struct TestArgs {
    /// Only the guests with these kernels
    #[arg(long, value_name = "SERIES", num_args = 1..)]
    vm: Vec<String>,
    /// Only the tests on the kernel of this machine, as root
    #[arg(long)]
    native: bool,
    /// Only what needs neither root nor a guest: formatting, clippy, unit and property tests, documentation,
    /// dependencies, policies and fuzzing
    #[arg(long)]
    host: bool,
    /// Only formatting, clippy, unit and property tests, and a guest with Linux 6.12
    #[arg(long, conflicts_with_all = ["vm", "native", "host", "filter", "attack"])]
    quick: bool,
    /// Of the native tests and those in guests, only those whose name contains this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Only the attack suite, in the guests
    #[arg(long, conflicts_with_all = ["native", "host", "filter"])]
    attack: bool,
}

impl From<TestArgs> for test::Selection {
    fn from(args: TestArgs) -> Self {
        Self {
            vm: args.vm,
            native: args.native,
            host: args.host,
            quick: args.quick,
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
        Verb::Verify { vm, mode } => verify::run(&vm, mode.into()),
        Verb::Guest {
            series,
            systemd,
            command,
        } => guest::run(&series, systemd, &command),
        Verb::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Verb::Soak { vm, minutes } => guest::soak(&vm, minutes),
        Verb::Dist {
            target,
            image,
            programs,
        } => dist::run(&dist::Options {
            targets: target,
            image,
            programs,
        }),
        Verb::Release { .. } => release::check(),
        Verb::Docs => docs::run(),
        Verb::Package { vm, no_build } => package::run(&vm, no_build),
        Verb::Bench { vm, only, mode } => bench::run(&vm, only.as_deref(), mode.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use crate::repo;
    use clap::{CommandFactory as _, Parser as _};
    use std::fs::read_to_string;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_line_accepts_what_workflows_and_documents_call() {
        let mut count = 0;
        for file in [
            ".github/workflows/ci.yml",
            ".github/workflows/nightly.yml",
            "CONTRIBUTING.md",
            "RELEASE.md",
            ".github/workflows/release.yml",
        ] {
            let text = read_to_string(repo::path(file)).expect(file);
            let text = text.replace("${{ matrix.kernel }}", "6.12");
            let text = text.replace("${{ matrix.target }}", "btf");
            let calls = text.lines().filter_map(|line| {
                let line = line.trim_start().trim_start_matches("- run: ");
                let call = line.strip_prefix("cargo xtask")?;
                Some(call.split('#').next().unwrap_or_default().to_owned())
            });
            for call in calls {
                let words = std::iter::once("xtask").chain(call.split_whitespace());
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{file}: cargo xtask{call}");
                count += 1;
            }
        }
        assert!(count >= 10, "{count} calls");
    }
}
