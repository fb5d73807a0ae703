//! The command `portguard-itest`: a verb for each kind of test, and hidden ones for child processes.

use clap::{Parser, Subcommand};
use portguard_itest::harness::{self, Kind, probe_child, socket_holder};
use portguard_itest::{attack, bench, demo, fuzz_seeds, scenarios, soak, suite, systemd, verify};
use std::path::PathBuf;
use std::time::Duration;

/// Tests portguard on the running kernel. Needs root.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The tests that this machine can run, by the hooks that it has
    Native {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// All tests of a guest
    Guest {
        /// This guest was booted without `bpf` in `lsm=`
        #[arg(long)]
        no_bpf_lsm: bool,
        /// Only the tests of decisions, which share one daemon
        #[arg(long)]
        decisions: bool,
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Enforces a policy, makes the binds of its `tests:` and shows the decisions
    Demo {
        /// The policy file
        #[arg(long)]
        policy: PathBuf,
        /// Further arguments of `portguard run`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Loads every program and prints how many instructions the verifier processed
    Verify,
    /// Measures the cost of a decision
    Bench {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Binds at full load with reloads, restarts and kills, and checks that all counts are exact
    Soak {
        /// How long, in minutes
        #[arg(long, default_value_t = 20)]
        minutes: u64,
    },
    /// One process of a soak
    #[command(hide = true)]
    SoakBinds { uid: u32, refusal: i32, millis: u64 },
    /// The shipped unit, started by systemd
    Systemd {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// The .deb in a Debian that systemd booted; reboots once
    #[command(hide = true)]
    Package,
    /// Writes the inputs with which fuzzing begins
    #[command(hide = true)]
    FuzzSeeds {
        directory: PathBuf,
        policies: PathBuf,
    },
    /// Runs the probes on stdin
    #[command(hide = true)]
    Bind,
    /// Runs a probe and keeps its sockets
    #[command(hide = true)]
    Hold { hold: String },
    /// Runs an actor of the attack suite
    #[command(hide = true)]
    Attack {
        actor: usize,
        cgroup: PathBuf,
        position: usize,
    },
    /// One process of a storm of binds
    #[command(hide = true)]
    Storm {
        number: u8,
        cgroup: PathBuf,
        effects: String,
    },
    /// Binds a port, then executes the next of these programs
    #[command(hide = true)]
    BindThenExec {
        #[arg(long)]
        unlink: bool,
        #[arg(long)]
        times: u32,
        programs: Vec<PathBuf>,
    },
    /// Mounts an NFS export of this machine
    #[command(hide = true)]
    MountNfs { port: u16, target: PathBuf },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Native { filter } => harness::run(Kind::Native, filter.as_deref(), &suite::all()),
        Verb::Guest {
            no_bpf_lsm,
            decisions,
            filter,
        } => {
            let kind = if no_bpf_lsm {
                Kind::GuestWithoutLsm
            } else {
                Kind::Guest
            };
            let tests = if decisions {
                suite::decisions()
            } else {
                suite::all()
            };
            harness::run(kind, filter.as_deref(), &tests)
        }
        Verb::Demo { policy, args } => demo::run(&policy, &args),
        Verb::Verify => verify::run(),
        Verb::Bench { args } => bench::run(&args),
        Verb::Soak { minutes } => soak::run_alone(Duration::from_secs(minutes * 60)),
        Verb::SoakBinds {
            uid,
            refusal,
            millis,
        } => soak::binds(uid, refusal, Duration::from_millis(millis)),
        Verb::Systemd { filter } => systemd::run(filter.as_deref()),
        Verb::Package => systemd::package::run(),
        Verb::FuzzSeeds {
            directory,
            policies,
        } => fuzz_seeds::write_all(&directory, &policies),
        Verb::Bind => probe_child::run(),
        Verb::Hold { hold } => socket_holder::run(&hold),
        Verb::Attack {
            actor,
            cgroup,
            position,
        } => attack::run_actor(actor, &cgroup, position),
        Verb::Storm {
            number,
            cgroup,
            effects,
        } => attack::storm(number, &cgroup, &effects),
        Verb::BindThenExec {
            unlink,
            times,
            programs,
        } => scenarios::bind_then_exec(unlink, times, &programs),
        Verb::MountNfs { port, target } => scenarios::mount_nfs(port, &target),
    }
}
