//! The command `portguard-itest`: one verb for each kind of test, and those the tests re-execute it with.

use clap::{Parser, Subcommand};
use portguard_itest::harness::{self, Kind, bind_runner, probe_child, socket_holder};
use portguard_itest::{attack, bench, demo, property, scenarios, shipped, soak, systemd, verify};
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
    /// The tests that a machine without a BPF LSM can run: by the cgroup hooks
    Native {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// All tests of a guest, which has nobody else in it
    Guest {
        /// This guest was booted without `bpf` in `lsm=`
        #[arg(long)]
        no_bpf_lsm: bool,
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
    /// Loads every program and prints how many instructions the verifier looked at
    Verify,
    /// Measures the cost of a decision
    Bench {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Binds at full load with reloads, restarts and kills, and adds up
    Soak {
        /// How long, in minutes
        #[arg(long, default_value_t = 20)]
        minutes: u64,
    },
    /// One process of a soak
    #[command(hide = true)]
    SoakBinds { uid: u32, refusal: i32, millis: u64 },
    /// Random policies and real binds against the oracle
    Property,
    /// The shipped policies' own tests, by real binds
    Shipped,
    /// The shipped unit, where systemd has started it
    Systemd {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Becomes what a probe says and binds
    #[command(hide = true)]
    Bind { probe: String },
    /// Becomes what it is told to, binds and keeps the sockets
    #[command(hide = true)]
    Hold { hold: String },
    /// Plays an actor of the attack suite
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
        outcome: String,
    },
    /// Mounts an NFS export of this machine
    #[command(hide = true)]
    MountNfs { port: u16, target: PathBuf },
    /// Becomes each of many callers and binds
    #[command(hide = true)]
    Act,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Native { filter } => harness::run(Kind::Native, filter.as_deref(), &scenarios::all()),
        Verb::Guest { no_bpf_lsm, filter } => {
            let kind = if no_bpf_lsm {
                Kind::GuestWithoutLsm
            } else {
                Kind::Guest
            };
            harness::run(kind, filter.as_deref(), &scenarios::all())
        }
        Verb::Demo { policy, args } => demo::run(&policy, &args),
        Verb::Verify => verify::run(),
        Verb::Bench { args } => bench::run(&args),
        Verb::Soak { minutes } => harness::soak(Duration::from_secs(minutes * 60)),
        Verb::SoakBinds {
            uid,
            refusal,
            millis,
        } => soak::binds(uid, refusal, Duration::from_millis(millis)),
        Verb::Property => property::run(),
        Verb::Shipped => shipped::run(),
        Verb::Systemd { filter } => systemd::run(filter.as_deref()),
        Verb::Bind { probe } => probe_child::run(&probe),
        Verb::Hold { hold } => socket_holder::run(&hold),
        Verb::Attack {
            actor,
            cgroup,
            position,
        } => attack::play(actor, &cgroup, position),
        Verb::Storm {
            number,
            cgroup,
            outcome,
        } => attack::storm(number, &cgroup, &outcome),
        Verb::MountNfs { port, target } => scenarios::mount_nfs(port, &target),
        Verb::Act => bind_runner::act(),
    }
}
