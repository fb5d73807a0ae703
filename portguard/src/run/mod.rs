//! `portguardd`, and so `portguard run`: enforce in the foreground.

mod first_policy;
mod missing;
mod unmatched_units;

pub use unmatched_units::units_condition;

use crate::account_lookup::AccountLookup;
use crate::control::{ControlError, SOCKET, Server};
use crate::counted::counted;
use crate::daemon::{self, Ended, Options};
use crate::events::sinks::{SinkSpec, Sinks};
use crate::exit::Exit;
use crate::kernel::{BPFFS, Enforcer, Environment, Hook, HookChoice, Pins, fix_for, local_ports};
use crate::loader::{CompiledPolicy, PolicyLoader};
use crate::metrics::{MetricsAddress, MetricsRules};
use crate::output::Output;
use crate::policy_paths::PolicyPaths;
use crate::policy_store::{DIRECTORY, PolicyStore};
use crate::process;
use crate::sandbox::Sandbox;
use crate::stderr::{self, log_line};
use clap::{Parser, ValueEnum};
use first_policy::{OnError, first_policy};
use portguard_policy::policy::{Mode, Policy, Scope, ranges_text};
use std::cell::Cell;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use unmatched_units::unmatched_units;

/// Enforces a policy in the foreground and reports decisions; `portguard run` starts it.
#[derive(Parser)]
#[command(name = "portguardd", version, max_term_width = 100)]
struct Command {
    #[command(flatten)]
    args: Args,
}

/// The arguments, which are those of `portguard run` too.
#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard run --pin --sink journald\n  \
    portguard run --policy web.yaml --mode audit --output json >> decisions.jsonl")]
#[command(mut_arg("paths", |arg| arg.help("Policy files or directories; together they form one policy \
    [default: /usr/lib/portguard/policies and /etc/portguard/policies]")))]
pub struct Args {
    #[command(flatten)]
    policy: PolicyPaths,
    /// Enforce or only report; overrides the policy's `mode`
    #[arg(long)]
    mode: Option<ModeArg>,
    /// Hook that decides binds
    #[arg(long, default_value = "auto")]
    hook: HookArg,
    /// Output format of decisions: a table on a terminal, JSON lines elsewhere
    #[arg(long, default_value = "auto")]
    output: Output,
    /// Keep enforcing after the daemon exits, by pins in /sys/fs/bpf/portguard, until `portguard detach`
    #[arg(long)]
    pin: bool,
    /// Where bpffs is mounted for this process
    #[arg(long, value_name = "PATH", default_value = BPFFS, hide_short_help = true)]
    bpffs: PathBuf,
    /// Where decisions go: stdout, journald, file:PATH (reopened on SIGUSR1) or none; may be repeated
    /// [default: stdout]
    #[arg(long = "sink", value_name = "SINK")]
    sinks: Vec<SinkSpec>,
    /// Serve Prometheus metrics at this address, or at a Unix socket for root and --socket-group
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    metrics: Option<MetricsAddress>,
    /// Rules of which the metrics tell
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "all",
        hide_short_help = true
    )]
    metrics_rules: MetricsRules,
    /// Close already-bound sockets that the policy denies
    #[arg(long)]
    enforce_existing: bool,
    /// Control socket for monitor, status and reload
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// Group whose members may use the control socket, and that of --metrics
    #[arg(long, value_name = "GROUP", value_parser = group)]
    socket_group: Option<u32>,
    /// Report every decision separately; do not aggregate equal ones
    #[arg(long)]
    no_fold: bool,
    /// What to enforce if the policy is broken at the start and no earlier one is kept
    #[arg(long, default_value = "kernel", hide_short_help = true)]
    on_error: OnError,
    /// Directory in which the policy in force is kept, for a start with broken files
    #[arg(long, value_name = "DIRECTORY", default_value = DIRECTORY, hide_short_help = true)]
    state: PathBuf,
    /// Accept policy files that others than root could change
    #[arg(long, hide_short_help = true)]
    insecure_policy_permissions: bool,
    /// Keep all capabilities, and filter neither system calls nor files: for a name service that needs more
    #[arg(long, hide_short_help = true)]
    no_sandbox: bool,
    /// Do not reload when policy files change; only on SIGHUP and `portguard reload`
    #[arg(long, hide_short_help = true)]
    no_watch: bool,
    /// Interval between hook health checks
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    check_every: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    /// Deny and grant binds
    Enforce,
    /// Only report; the kernel decides
    Audit,
}

#[derive(Clone, Copy, ValueEnum)]
enum HookArg {
    /// The LSM hook if the kernel runs it, else the cgroup hooks
    Auto,
    /// The LSM hook; exit 3 if it is not available
    Lsm,
    /// Only the cgroup hooks
    Cgroup,
}

/// Runs the daemon with the arguments that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    process::prepare();
    let args = Command::parse().args;
    let exit = match enforce(&args) {
        Ok(exit) | Err(exit) => exit,
    };
    exit.into()
}

/// An error is what the command ends with before anything is enforced; why has been said.
fn enforce(args: &Args) -> Result<Exit, Exit> {
    if missing::print_missing_object() {
        return Err(Exit::Environment);
    }
    if args.policy.is_stdin() {
        log_line!(
            "portguard: run reads its policy again at each reload, which standard input cannot be: give a file"
        );
        return Err(Exit::NotSo);
    }
    // It may mount securityfs, which the sandbox would not let it do.
    let environment = Environment::probe();
    let sandbox = match args.no_sandbox {
        true => Sandbox::off(),
        false => Sandbox::enter(),
    };
    let source = PolicyLoader {
        paths: args.policy.get(),
        mode: args.mode.map(Into::into),
        insecure_permissions: args.insecure_policy_permissions,
        accounts: AccountLookup::start_in(&sandbox).map_err(lacking)?,
    };
    let store = PolicyStore::new(args.state.clone());
    let (fresh, fallback) = first_policy(&source, &store, args.on_error)?;
    stderr::text(&fresh.warnings);
    if missing::print_missing(&environment) {
        return Err(Exit::Environment);
    }
    let sinks = Sinks::open(&args.sinks, args.output.format(), &sandbox).map_err(lacking)?;
    let server = server(args)?;
    let pins = args.pin.then(|| Pins::open(&args.bpffs));
    let pins = pins.transpose().map_err(lacking)?;
    let enforcer = Enforcer::start(&environment, args.hook.into(), pins).map_err(lacking)?;
    announce_policy(args, &fresh);
    announce_hook(&fresh.policy, &enforcer);
    let enforcing = Cell::new(false);
    let ready = || {
        log_line!("portguard: ready");
        enforcing.set(true);
    };
    let options = Options {
        sinks,
        metrics: args.metrics.clone(),
        metrics_rules: args.metrics_rules,
        metrics_group: args.socket_group,
        enforce_existing: args.enforce_existing,
        fold: !args.no_fold,
        watch: !args.no_watch,
        store,
        fallback,
        sandbox,
        check_every: Duration::from_secs(args.check_every),
        server,
    };
    let ended = daemon::run(enforcer, &environment, source, fresh, options, ready);
    let ended = ended.map_err(|error| match (lacking(error), enforcing.get()) {
        (lacking, false) => lacking,
        // It has enforced: to start it again helps.
        (_, true) => Exit::NotSo,
    })?;
    sum_up(&ended);
    Ok(Exit::Success)
}

/// The socket; none where the system has no place for it, which is no reason not to enforce.
fn server(args: &Args) -> Result<Option<Server>, Exit> {
    match Server::bind(&args.socket, args.socket_group) {
        Ok(server) => Ok(Some(server)),
        Err(error @ ControlError::System { .. }) => {
            log_line!("portguard: {error}; continuing without monitor, status and reload");
            Ok(None)
        }
        Err(error) => Err(lacking(error)),
    }
}

/// Reports what this host lacks, and the fix.
fn lacking(error: impl Error + 'static) -> Exit {
    let fix = fix_for(&error).map_or_else(String::new, |fix| format!("; {fix}"));
    log_line!("portguard: {error}{fix}");
    Exit::Environment
}

/// The gid of a group's name, or the number that it is.
fn group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    let group = uzers::get_group_by_name(text);
    group
        .map(|group| group.gid())
        .ok_or_else(|| format!("no such group {text}; create it with `groupadd -r {text}`"))
}

impl From<ModeArg> for Mode {
    fn from(arg: ModeArg) -> Self {
        match arg {
            ModeArg::Enforce => Self::Enforce,
            ModeArg::Audit => Self::Audit,
        }
    }
}

impl From<HookArg> for HookChoice {
    fn from(arg: HookArg) -> Self {
        match arg {
            HookArg::Auto => Self::Auto,
            HookArg::Lsm => Self::Lsm,
            HookArg::Cgroup => Self::Cgroup,
        }
    }
}

/// Says what is enforced.
fn announce_policy(args: &Args, fresh: &CompiledPolicy) {
    let CompiledPolicy {
        policy,
        tables,
        description,
        ..
    } = fresh;
    let paths: Vec<String> = args
        .policy
        .get()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    log_line!(
        "portguard: policy {}, revision {}, from {}: {}, {}, ports {}, default {}{}",
        tables.short_digest(),
        description.policy.revision,
        paths.join(", "),
        counted(tables.rule_names.len(), "rule"),
        counted(tables.user_count, "user"),
        ranges_text(&policy.protect),
        policy.default.as_str(),
        if policy.mode == Mode::Audit {
            ", audit only: binds are reported, not denied or granted"
        } else {
            ""
        },
    );
}

/// Says by which hook it is enforced, and what that leaves out.
fn announce_hook(policy: &Policy, enforcer: &Enforcer) {
    for note in enforcer.startup_notes() {
        log_line!("portguard: {note}");
    }
    if let Some(reason) = enforcer.fallback() {
        log_line!("portguard: the LSM hook is not available: {reason}");
    }
    match enforcer.hook() {
        Hook::Lsm => log_line!(
            "portguard: hook lsm: socket_bind and sctp_bind_connect decide, bind4 and bind6 grant"
        ),
        Hook::Cgroup => {
            log_line!("portguard: hook cgroup: bind4 and bind6 decide; SCTP is not covered")
        }
    }
    if !enforcer.features().grants {
        log_line!(
            "portguard: this kernel cannot grant low ports without CAP_NET_BIND_SERVICE (needs Linux 5.12)"
        );
    }
    if enforcer.hook() == Hook::Cgroup && !enforcer.features().set_errno {
        log_line!(
            "portguard: on this kernel a denied bind fails with EPERM, whatever the `errno` of its rule (needs Linux 5.18)"
        );
    }
    if let Some(exposed) = local_ports().and_then(|ports| ports.exposed(&policy.protect)) {
        log_line!("portguard: warning: {exposed}; {}", exposed.fix());
    }
    if let Some((finding, help)) = unmatched_units(policy) {
        log_line!("portguard: warning: {finding}; {help}");
    }
    if policy.scope == Scope::Host {
        log_line!("portguard: scope host: binds in other network namespaces are not decided");
    }
}

fn sum_up(ended: &Ended) {
    let counts = ended.counts;
    if ended.pinned {
        log_line!("portguard: the pins keep enforcing; `portguard detach` removes them");
    }
    log_line!(
        "portguard: decided {}: {} allow, {} deny, {} kernel; {} events dropped",
        counts.decisions.all(),
        counts.decisions.allow,
        counts.decisions.deny,
        counts.decisions.kernel,
        counts.dropped() + ended.dropped,
    );
    if counts.unresolved > 0 {
        log_line!(
            "portguard: {} times a caller's cgroup or groups could not be read: `deny` rules that could match applied, otherwise the default",
            counts.unresolved
        );
    }
    if counts.faults > 0 {
        log_line!(
            "portguard: {} decisions failed on a missing table and fell back to the kernel's default check; please report this",
            counts.faults
        );
    }
}
