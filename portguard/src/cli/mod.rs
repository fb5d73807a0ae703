//! The command line: arguments in, exit code out. One file per verb.

mod caller;
mod check;
mod detach;
mod diff;
mod difference;
mod doctor;
mod explain;
mod failure;
mod host_names;
mod inventory;
mod monitor;
mod objects;
mod pages;
mod recorded;
mod recorded_events;
mod reload;
mod run;
mod schema;
mod span;
mod status;
mod suggest;
mod table;
mod table_row;
mod test;
mod test_report;
mod top;
mod who_can_bind;

use crate::control::SOCKET;
use crate::kernel::{can_grant, local_ports};
use crate::policy_paths::PolicyPaths;
use crate::stderr;
use crate::stdout::StdoutError;
use clap::{Parser, Subcommand};
use host_names::ForHost;
use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::local_ports::LocalPorts;
use portguard_policy::policy::{self, Diagnostics, Loaded, Policy, SystemNames};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Controls who may bind which port on this host: allows, grants or denies binds by user and cgroup from a
/// YAML policy, in the kernel, and reports every decision.
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Enforce a policy in the foreground and report decisions
    Run(crate::run::Args),
    /// Check policy files and run their tests
    Check(check::Args),
    /// Run the tests of a policy
    Test(test::Args),
    /// Explain how a policy decides a bind
    Explain(explain::Args),
    /// Show which binds two policies decide differently, and for whom
    Diff(diff::Args),
    /// Generate a policy from recorded decisions or from this host's configuration
    Suggest(suggest::Args),
    /// Show decisions of the running daemon, as lines or as a live table
    Monitor(monitor::Args),
    /// Show what is enforced, by which policy, and its counters
    Status(status::Args),
    /// Reload the daemon's policy atomically
    Reload(reload::Args),
    /// Stop enforcing: end the daemon and remove all pins
    Detach(detach::Args),
    /// List sockets already bound to protected ports, and the policy's verdict on each
    Inventory(inventory::Args),
    /// Check whether this host can enforce a policy, and how to fix what is missing
    Doctor(doctor::Args),
    /// Print the JSON Schema of policy files or of decision events
    Schema(schema::Args),
    /// Print a shell completion script
    Completions(pages::Completions),
    /// Print the manual page, or write the pages of all commands
    Man(pages::Man),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    crate::process::prepare();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // Commands that only print end quietly where their reader does (`| head`); the daemon must not.
    if !matches!(cli.verb, Verb::Run(_)) {
        sigpipe::reset();
    }
    let json = cli.verb.json();
    let exit = match cli.verb {
        Verb::Run(_) => Ok(run::run()),
        Verb::Check(args) => check::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Suggest(args) => suggest::run(&args),
        Verb::Monitor(args) => monitor::run(args),
        Verb::Status(args) => status::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Detach(args) => detach::run(&args),
        Verb::Inventory(args) => inventory::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Completions(args) => pages::completions(&args),
        Verb::Man(args) => pages::man(&args),
    };
    exit.unwrap_or_else(|error| failure::report(&error, json))
        .into()
}

impl Verb {
    /// Whether the command prints JSON, and so its errors too.
    const fn json(&self) -> bool {
        match self {
            Self::Check(args) => args.json,
            Self::Test(args) => args.json,
            Self::Explain(args) => args.json,
            Self::Diff(args) => args.json,
            Self::Status(args) => args.json,
            Self::Inventory(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Run(_)
            | Self::Suggest(_)
            | Self::Monitor(_)
            | Self::Reload(_)
            | Self::Detach(_)
            | Self::Schema(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}

/// Prints wrong usage, help or the version.
fn usage(error: &clap::Error) -> ExitCode {
    sigpipe::reset();
    let printed = error.print().map_err(StdoutError::from);
    match printed {
        Err(failed) if !error.use_stderr() => failure::unwritten(&failed).into(),
        _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// The daemon that a command talks to.
#[derive(clap::Args)]
struct Daemon {
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Policies named on the command line.
#[derive(clap::Args)]
struct Loading {
    #[command(flatten)]
    policy: PolicyPaths,
    #[command(flatten)]
    host: ForHost,
}

impl Loading {
    fn read(&self) -> anyhow::Result<Loaded> {
        let names = self.host.names()?;
        let loaded = policy::load(&self.policy.get(), names.service());
        names.note();
        Ok(loaded?)
    }

    /// The same with the warnings that take the whole policy and the host.
    fn linted(&self) -> anyhow::Result<Loaded> {
        let mut loaded = self.read()?;
        let host = match &self.host.host {
            Some(_) => Host {
                local_ports: Some(LocalPorts::kernel_default()),
                ..Host::ANY
            },
            None => Host {
                local_ports: local_ports(),
                grants: can_grant(),
                debian: is_debian(),
            },
        };
        lint(&mut loaded, &host);
        Ok(loaded)
    }

    fn load(&self) -> anyhow::Result<Policy> {
        self.read().map(with_warnings_shown)
    }
}

/// Whether this host is Debian or a relative of it.
fn is_debian() -> bool {
    is_release_of_debian(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
}

/// Whether a text of os-release(5) says so.
fn is_release_of_debian(release: &str) -> bool {
    let mut lines = release.lines().filter_map(|line| line.split_once('='));
    lines.any(|(key, value)| {
        let mut words = value.trim_matches('"').split(' ');
        matches!(key, "ID" | "ID_LIKE") && words.any(|word| word == "debian")
    })
}

/// Loads policies as this host does, and prints their warnings.
fn load(paths: &[PathBuf]) -> Result<Policy, Diagnostics> {
    policy::load(paths, &SystemNames::LOCAL).map(with_warnings_shown)
}

fn with_warnings_shown(loaded: Loaded) -> Policy {
    stderr::text(&loaded.warnings.render(std::io::stderr().is_terminal()));
    loaded.policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn debian_and_its_relatives_are_known_by_their_release() {
        let ubuntu = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n";
        assert!(is_release_of_debian("ID=debian\n") && is_release_of_debian(ubuntu));
        assert!(!is_release_of_debian("NAME=\"not debian\"\nID=fedora\n"));
    }

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
