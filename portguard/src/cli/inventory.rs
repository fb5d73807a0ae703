//! `portguard inventory`: sockets already bound to protected ports, and the policy's verdict on each.

use super::{failure::Unavailable, table::table};
use crate::counted::counted;
use crate::exit::Exit;
use crate::inventory::{By, Closed, DestroyError, Holder, Inventory, PlaceKind, take};
use crate::kernel::Environment;
use crate::policy_paths::PolicyPaths;
use crate::stderr::log_line;
use crate::stdout::{self, out_line};
use portguard_common::Verdict;
use portguard_policy::compile::compile;
use portguard_policy::policy::{Mode, Policy};
use serde_json::json;

#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard inventory --policy web.yaml\n  \
    portguard inventory --policy /etc/portguard/policies --json | jq 'select(.violation)'\n  \
    portguard inventory --policy web.yaml --enforce-existing\n\n\
Exit codes: 0 no socket violates the policy, 1 some do (with --enforce-existing: and could not be closed), \
3 the kernel cannot list sockets, or privileges are missing.")]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyPaths,
    /// Print one JSON object per socket
    #[arg(long)]
    pub(super) json: bool,
    /// Close already-bound sockets that the policy denies, where the kernel supports it (SOCK_DESTROY); never
    /// for a policy or rule in audit mode
    #[arg(long)]
    enforce_existing: bool,
}

/// What became of a socket that was to be closed; `None` where it was not.
type Outcome = Option<Result<Closed, DestroyError>>;

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let policy = super::load(&args.policy.get())?;
    let tables = compile(&policy)?;
    let environment = Environment::probe();
    if let Some(lacking) = environment.namespaces().filter(|found| found.is_missing()) {
        return Err(Unavailable(lacking.sentence()).into());
    }
    let inventory = take(&policy, &tables, environment.host_netns)
        .map_err(|error| Unavailable(error.to_string()))?;
    let close = args.enforce_existing && policy.mode == Mode::Enforce;
    let outcomes: Vec<Outcome> = inventory
        .holders
        .iter()
        .map(|holder| (close && holder.violation).then(|| holder.destroy()))
        .collect();
    if args.json {
        print_objects(&inventory, &outcomes)?;
    } else {
        print_table(&policy, &inventory)?;
    }
    for (holder, outcome) in inventory.holders.iter().zip(&outcomes) {
        if let Some(outcome) = outcome {
            log_line!("portguard: {}", holder.describe_closing(outcome));
        }
    }
    if inventory.hidden > 0 {
        log_line!(
            "portguard: cannot read the network namespace of {} processes; their sockets are not listed",
            inventory.hidden
        );
    }
    if args.enforce_existing && !close {
        log_line!("portguard: the policy is in audit mode; nothing is closed");
    }
    let mut holders = inventory.holders.iter().zip(&outcomes);
    Ok(Exit::of(holders.all(|(holder, outcome)| {
        !holder.violation || matches!(outcome, Some(Ok(_)))
    })))
}

fn print_objects(inventory: &Inventory, outcomes: &[Outcome]) -> anyhow::Result<()> {
    for (holder, outcome) in inventory.holders.iter().zip(outcomes) {
        let mut object = serde_json::to_value(holder)?;
        // Null where nobody tried.
        object["closed"] = json!(outcome.as_ref().map(Result::is_ok));
        out_line!("{object}")?;
    }
    Ok(())
}

const HEADER: [&str; 8] = [
    "PORT", "ADDRESS", "WHO", "UNIT", "PROGRAM", "NETNS", "POLICY", "RULE",
];

fn print_table(policy: &Policy, inventory: &Inventory) -> anyhow::Result<()> {
    let holders = &inventory.holders;
    if holders.is_empty() {
        out_line!("no socket is bound to a protected port")?;
        return Ok(());
    }
    let elsewhere = holders.iter().any(|holder| !holder.host_netns);
    let rows: Vec<Vec<String>> = holders
        .iter()
        .map(|holder| cells(holder, elsewhere))
        .collect();
    stdout::text(&table(&HEADER, &rows))?;
    let violations = inventory.violations().count();
    let audit = if policy.mode == Mode::Audit {
        " (audit)"
    } else {
        ""
    };
    out_line!(
        "\n{} {} against the policy{audit}",
        counted(violations, "socket"),
        if violations == 1 { "is" } else { "are" },
    )?;
    Ok(())
}

fn cells(holder: &Holder, elsewhere: bool) -> Vec<String> {
    // A column that says `any` throughout is left out.
    let netns = match (elsewhere, holder.host_netns) {
        (false, _) => "any".to_owned(),
        (true, true) => "host".to_owned(),
        (true, false) => holder.netns.to_string(),
    };
    let note = match holder.doubt {
        Some(doubt) => format!(" ({})", doubt.describe()),
        None if holder.enforced || holder.verdict == Verdict::Kernel => String::new(),
        None => " (audit)".to_owned(),
    };
    let rule = match (&holder.rule, &holder.evaluated) {
        (Some(rule), _) => rule.clone(),
        (None, Some(_)) => "the default".to_owned(),
        (None, None) => "-".to_owned(),
    };
    vec![
        format!("{}/{}", holder.protocol.as_str(), holder.port),
        holder.address.to_string(),
        holder.who(),
        holder.unit.clone().unwrap_or_else(|| "-".to_owned()),
        program(holder),
        netns,
        format!("{}{note}", holder.verdict.as_str()),
        rule,
    ]
}

fn program(holder: &Holder) -> String {
    let Some(first) = holder.processes.first() else {
        return without_process(holder);
    };
    let name = first.exe.as_ref().unwrap_or(&first.comm);
    let more = match holder.processes.len() {
        1 => String::new(),
        all => format!(" +{}", all - 1),
    };
    format!("{name}[{}]{more}", first.pid)
}

/// What a socket is that no process has open.
fn without_process(holder: &Holder) -> String {
    match (holder.by, holder.may_be_in.first()) {
        (By::Kernel, _) => "kernel".to_owned(),
        (_, None) => "no process".to_owned(),
        (_, Some(place)) => {
            let what = match place.what {
                PlaceKind::UnixQueue => "in flight to",
                PlaceKind::IoUring => "in an io_uring of",
            };
            let more = match holder.may_be_in.len() {
                1 => String::new(),
                all => format!(" or {} more", all - 1),
            };
            format!("no process; {what} {}[{}]{more}?", place.comm, place.pid)
        }
    }
}
