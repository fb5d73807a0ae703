//! `portguard suggest`: generates a policy from recorded decisions or from this host.

use super::recorded_events::{self, RecordedBind};
use crate::account_names::AccountNames;
use crate::counted::counted;
use crate::exit::Exit;
use crate::stderr::log_line;
use crate::stdout;
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use portguard_common::Verdict;
use portguard_policy::compile::{Bind, Gids, Owner, Tables, compile};
use portguard_policy::policy::{NameService as _, Policy, SystemNames};
use portguard_policy::suggest::{Demand, Who, inspect, owner_of, policy_beside};
use portguard_policy::units;
use portguard_policy::yaml::{ABOVE, DefaultName};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_long_help = "Refused binds are left out; binds left to the kernel or decided in audit mode count as \
    allowed. Review the policy before you enforce it: it allows everything that was recorded.\n\nExamples:\n  \
    portguard run --mode audit > seen.jsonl; portguard suggest --event seen.jsonl > policy.yaml\n  \
    portguard suggest --from-host > policy.yaml\n  \
    journalctl -t portguard -o json | portguard suggest --event - --policy /etc/portguard/policies"
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
    #[arg(long, default_value = "kernel", conflicts_with = "policy")]
    default: DefaultArg,
    /// Print only what this policy lacks: rules for binds that it denies or leaves to its default; may be repeated
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
}

/// What is known of who made a bind, beside its uids.
#[derive(Default)]
struct Caller {
    gids: Gids,
    userns_owner: Option<u32>,
}

impl Caller {
    /// A user with the groups that the system gives it.
    fn of_user(user: Option<&str>) -> Self {
        let groups = user.map_or_else(Vec::new, |user| SystemNames::LOCAL.gids_of(user));
        Self {
            gids: groups.into(),
            userns_owner: None,
        }
    }
}

/// The policy of `--policy`.
struct Existing {
    policy: Policy,
    tables: Tables,
}

impl Existing {
    fn read(paths: &[PathBuf]) -> anyhow::Result<Option<Self>> {
        if paths.is_empty() {
            return Ok(None);
        }
        let policy = super::load(paths)?;
        let tables = compile(&policy)?;
        Ok(Some(Self { policy, tables }))
    }

    /// Whether a rule allows the bind or leaves it to the kernel, or nothing decides it.
    fn covers(&self, demand: &Demand, caller: &Caller) -> bool {
        let path = demand
            .cgroup
            .clone()
            .unwrap_or_else(|| usual_cgroup(&demand.who));
        let cgroup: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let [uid, euid] = demand.uids;
        let owners: Vec<Owner> = (caller.userns_owner.into_iter())
            .map(|uid| Owner { uid, gid: None })
            .collect();
        let decision = self.tables.decide(&Bind {
            port: demand.port,
            protocol: demand.protocol,
            uid,
            euid,
            gids: &caller.gids.all,
            setgid: caller.gids.setgid,
            owners: &owners,
            cgroup: &cgroup,
            address: demand.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            dual_stack: true,
        });
        decision.is_none_or(|decision| {
            decision.verdict != Verdict::Deny && self.policy.rule(decision.rule).is_some()
        })
    }

    fn rule_names(&self) -> BTreeSet<String> {
        let rules = self.policy.rules.iter();
        rules.map(|rule| rule.name.clone()).collect()
    }
}

/// The path at which a unit usually is, with an example of an instance; where another owner is.
fn usual_cgroup(who: &Who) -> String {
    match who {
        Who::Unit(unit) => units::cgroup(&unit.replace('*', "x")).join("/"),
        Who::Cgroup(path) => path.clone(),
        Who::User | Who::UserOfUnnamed => String::new(),
    }
}

/// What the events say.
#[derive(Default)]
struct Seen {
    demands: Vec<Demand>,
    binds: u64,
    refused: u64,
    covered: u64,
}

impl Seen {
    fn read(paths: &[PathBuf], existing: Option<&Existing>) -> anyhow::Result<Self> {
        let mut seen = Self::default();
        for path in paths {
            for bind in recorded_events::read(path)? {
                if bind.refused {
                    seen.refused += bind.count;
                    continue;
                }
                let caller = Caller {
                    // Looked up only where a policy is asked.
                    gids: existing.map_or_else(Gids::default, |_| bind.gids()),
                    userns_owner: bind.userns_owner,
                };
                let demand = demand(bind);
                if existing.is_some_and(|policy| policy.covers(&demand, &caller)) {
                    seen.covered += demand.count;
                } else {
                    seen.binds += demand.count;
                    seen.demands.push(demand);
                }
            }
        }
        Ok(seen)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum DefaultArg {
    /// The kernel's default check
    Kernel,
    /// Deny
    Deny,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let existing = Existing::read(&args.policy)?;
    let seen = Seen::read(&args.event, existing.as_ref())?;
    let (mut demands, mut covered) = (seen.demands, seen.covered);
    let mut notes = Vec::new();
    if !args.event.is_empty() {
        notes.push(format!(
            "Generated from {} recorded by portguard.",
            counted(seen.binds as usize, "bind")
        ));
    }
    if seen.refused > 0 {
        log_line!(
            "portguard: left out {} that were refused",
            counted(seen.refused as usize, "bind")
        );
    }
    if args.from_host {
        let found = inspect(&args.root).context("inspecting the host")?;
        for demand in found.demands {
            let user = name_of(&mut AccountNames::default(), demand.uids[1]);
            let caller = Caller::of_user(user.as_deref());
            if (existing.as_ref()).is_some_and(|policy| policy.covers(&demand, &caller)) {
                covered += 1;
            } else {
                demands.push(demand);
            }
        }
        notes.push(format!(
            "Generated from the configuration of {}.",
            args.root.display()
        ));
        notes.extend(found.notes);
    }
    if demands.is_empty() && covered > 0 {
        let what = if args.from_host { "found" } else { "recorded" };
        log_line!("portguard: the policy has rules for all that was {what}");
        return Ok(Exit::Success);
    }
    if demands.is_empty() && !args.from_host {
        bail!("no bind to allow was recorded: a policy of no rules would only refuse");
    }
    let default = match args.default {
        DefaultArg::Kernel => DefaultName::Kernel,
        DefaultArg::Deny => DefaultName::Deny,
    };
    let names = RefCell::new(AccountNames::default());
    let name_of = |uid| name_of(&mut names.borrow_mut(), uid);
    let taken = existing.as_ref().map(Existing::rule_names);
    let mut policy = policy_beside(&demands, default, &name_of, taken.unwrap_or_default());
    if existing.is_some() {
        // Its settings are those of the policy that it is added to.
        policy.default = None;
        policy.protect = None;
        notes.push("Only what the policy lacks. The first rule that matches decides: name this file so that it comes before it.".into());
    }
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
        address: bind.address,
        cgroup: bind.cgroup,
        count: bind.count,
        from: bind.program.unwrap_or_else(|| "unknown".into()),
    }
}

/// The name of a user, where a policy that names it means that user.
fn name_of(names: &mut AccountNames, uid: u32) -> Option<String> {
    let name = names.name(uid)?.into_string().ok()?;
    (SystemNames::LOCAL.uid(&name) == Some(uid)).then_some(name)
}
