//! `portguard run`: enforce in the foreground.

use super::{Exit, counted};
use crate::compile::{Tables, compile};
use crate::daemon::{self, Ended};
use crate::kernel::{Enforcer, Environment, Hook, HookChoice, LocalPorts};
use crate::policy::{Mode, Policy, Scope, ranges_text};
use crate::say::say;
use crate::sink::Format;
use clap::ValueEnum;
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard run --policy /etc/portguard/policies\n  \
    portguard run --policy web.yaml --mode audit --output json >> decisions.jsonl")]
pub(super) struct Args {
    /// Policy file, or directory of them; may be given more than once
    #[arg(long, value_name = "PATH", default_value = "/etc/portguard/policies")]
    policy: Vec<PathBuf>,
    /// Enforce, or only report; stands above what the policy says
    #[arg(long)]
    mode: Option<ModeArg>,
    /// The hook that decides
    #[arg(long, default_value = "auto")]
    hook: HookArg,
    /// How decisions are written: a table on a terminal, JSON lines elsewhere
    #[arg(long, default_value = "auto")]
    output: OutputArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    /// Denials and grants are real
    Enforce,
    /// Nothing is changed
    Audit,
}

#[derive(Clone, Copy, ValueEnum)]
enum HookArg {
    /// The LSM where the kernel runs it, else the cgroup hooks
    Auto,
    /// The LSM, or exit 3
    Lsm,
    /// The cgroup hooks alone
    Cgroup,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputArg {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// A table line each
    Text,
    /// One JSON object a line
    Json,
}

/// # Errors
/// Where the policy does not compile or the daemon fails.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Some(policy) = load(args) else {
        return Ok(Exit::NotSo);
    };
    let tables = compile(&policy, 1)?;
    let environment = Environment::probe();
    if super::doctor::print_missing(&environment) {
        return Ok(Exit::Environment);
    }
    let enforcer = match Enforcer::start(&environment, args.hook.into()) {
        Ok(enforcer) => enforcer,
        Err(error) => {
            say!("portguard: {error}");
            return Ok(Exit::Environment);
        }
    };
    announce(args, &policy, &tables, &enforcer);
    let ready = || say!("portguard: ready");
    let format = format(args.output);
    let again = |generation| reload(args, generation);
    let ended = daemon::run(enforcer, &environment, &tables, format, ready, again)?;
    sum_up(&ended);
    Ok(Exit::Success)
}

/// Loads the policy that the arguments name; `None` where it is broken, which is said.
fn load(args: &Args) -> Option<Policy> {
    let mut policy = super::load_linted(&args.policy)?;
    match args.mode {
        Some(ModeArg::Enforce) => policy.mode = Mode::Enforce,
        Some(ModeArg::Audit) => policy.mode = Mode::Audit,
        None => {}
    }
    Some(policy)
}

/// The policy as its files are now; `None` where it is broken, which is said.
fn reload(args: &Args, generation: u16) -> Option<Tables> {
    let Some(policy) = load(args) else {
        say!("portguard: reload failed, the policy before stays: mend the files and reload again");
        return None;
    };
    match compile(&policy, generation) {
        Ok(tables) => Some(tables),
        Err(error) => {
            say!("portguard: reload failed, the policy before stays: {error}");
            None
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

fn format(output: OutputArg) -> Format {
    let terminal = std::io::stdout().is_terminal();
    let color = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    match output {
        OutputArg::Json => Format::Json,
        OutputArg::Auto if !terminal => Format::Json,
        OutputArg::Auto | OutputArg::Text => Format::Text { color },
    }
}

/// Says what is enforced, by which hook, and what that leaves out.
fn announce(args: &Args, policy: &Policy, tables: &Tables, enforcer: &Enforcer) {
    let paths: Vec<String> = args
        .policy
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    say!(
        "portguard: policy {} from {}: {}, {}, ports {}, default {}{}",
        tables.short_digest(),
        paths.join(", "),
        counted(tables.rule_count(), "rule"),
        counted(tables.user_count(), "user"),
        ranges_text(&policy.protect),
        policy.default.as_str(),
        if policy.mode == Mode::Audit {
            ", audit only: nothing is denied or granted"
        } else {
            ""
        },
    );
    if let Some(reason) = enforcer.fallback() {
        say!("portguard: the LSM hook cannot be used: {reason}");
    }
    match enforcer.hook() {
        Hook::Lsm => say!(
            "portguard: hook lsm: socket_bind and sctp_bind_connect decide, the cgroup hooks grant"
        ),
        Hook::Cgroup => say!(
            "portguard: hook cgroup: bind4 and bind6 decide; this leaves out SCTP, which has no cgroup hook"
        ),
    }
    if !enforcer.features().grants {
        say!(
            "portguard: this kernel knows no grants (Linux 5.12): `allow` still needs CAP_NET_BIND_SERVICE below port 1024"
        );
    }
    if enforcer.hook() == Hook::Cgroup && !enforcer.features().set_errno {
        say!("portguard: on this kernel a denied bind fails with EPERM, not EACCES (Linux 5.18)");
    }
    if let Some(exposed) = LocalPorts::read().and_then(|ports| ports.exposed(&policy.protect)) {
        say!("portguard: warning: {exposed}; {}", exposed.mend());
    }
    if policy.scope == Scope::Host {
        say!("portguard: scope host: binds in other network namespaces are left alone");
    }
}

fn sum_up(ended: &Ended) {
    let counts = ended.counts;
    say!(
        "portguard: decided {}: {} allow, {} deny, {} kernel; {} events lost",
        counts.allow + counts.deny + counts.kernel,
        counts.allow,
        counts.deny,
        counts.kernel,
        counts.lost + ended.unwritten,
    );
    if counts.unread > 0 {
        say!(
            "portguard: {} cgroup paths could not be read: where rules name cgroups, the default decided",
            counts.unread
        );
    }
    if counts.faults > 0 {
        say!(
            "portguard: {} decisions failed on a missing table: the kernel's own rule held; please report this",
            counts.faults
        );
    }
}
