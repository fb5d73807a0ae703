//! `portguard suggest`: generates a policy from recorded decisions or from this host.

use super::recorded_events::{self, RecordedBind};
use super::{Exit, counted};
use crate::account_names::AccountNames;
use crate::stderr::log_line;
use crate::stdout;
use anyhow::Context as _;
use clap::ValueEnum;
use portguard_policy::policy::{NameService as _, SystemNames};
use portguard_policy::suggest::{Demand, inspect, owner_of, policy};
use portguard_policy::yaml::{ABOVE, DefaultName};
use std::cell::RefCell;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_long_help = "Refused binds are left out; binds left to the kernel or decided in audit mode count as \
    allowed. Review the policy before you enforce it: it allows everything that was recorded.\n\nExamples:\n  \
    portguard run --mode audit > seen.jsonl; portguard suggest --event seen.jsonl > policy.yaml\n  \
    portguard suggest --from-host > policy.yaml"
)]
pub(super) struct Args {
    /// Decisions from this file, or - for standard input: JSON lines, `journalctl -o json` or rows of the table; may be
    /// repeated
    #[arg(long, value_name = "FILE", required_unless_present = "from_host")]
    event: Vec<PathBuf>,
    /// Inspect how this host lets services bind ports below 1024 today
    #[arg(long)]
    from_host: bool,
    /// Root directory of the host to inspect
    #[arg(long, value_name = "DIR", default_value = "/", requires = "from_host")]
    root: PathBuf,
    /// Verdict on all other binds
    #[arg(long, default_value = "kernel")]
    default: DefaultArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum DefaultArg {
    /// The kernel's default check
    Kernel,
    /// Deny
    Deny,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut demands = Vec::new();
    let mut notes = Vec::new();
    let (mut seen, mut refused) = (0, 0);
    for path in &args.event {
        for bind in recorded_events::read(path)? {
            if bind.refused {
                refused += bind.count;
            } else {
                seen += bind.count;
                demands.push(demand(bind));
            }
        }
    }
    if !args.event.is_empty() {
        notes.push(format!(
            "Generated from {} recorded by portguard.",
            counted(seen as usize, "bind")
        ));
        if refused > 0 {
            log_line!(
                "portguard: left out {} that were refused",
                counted(refused as usize, "bind")
            );
        }
    }
    if args.from_host {
        let found = inspect(&args.root).context("inspecting the host")?;
        demands.extend(found.demands);
        notes.push(format!(
            "Generated from the configuration of {}.",
            args.root.display()
        ));
        notes.extend(found.notes);
    }
    let default = match args.default {
        DefaultArg::Kernel => DefaultName::Kernel,
        DefaultArg::Deny => DefaultName::Deny,
    };
    let names = RefCell::new(AccountNames::default());
    let name_of = |uid| name_of(&mut names.borrow_mut(), uid);
    let mut policy = policy(&demands, default, &name_of);
    policy.notes.insert(ABOVE, notes.join("\n"));
    stdout::text(&policy.to_string())?;
    Ok(Exit::Success)
}

fn demand(bind: RecordedBind) -> Demand {
    Demand {
        who: owner_of(bind.cgroup.as_deref()),
        uids: [bind.uid, bind.euid],
        port: bind.port,
        protocol: bind.protocol,
        count: bind.count,
        from: bind.program.unwrap_or_else(|| "unknown".into()),
    }
}

/// The name of a user, where a policy that names it means that user.
fn name_of(names: &mut AccountNames, uid: u32) -> Option<String> {
    let name = names.name(uid)?.into_string().ok()?;
    (SystemNames::LOCAL.uid(&name) == Some(uid)).then_some(name)
}
