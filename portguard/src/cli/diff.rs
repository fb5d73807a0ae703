//! `portguard diff`: which binds change, and for whom.

use super::host_names::ForHost;
use super::{objects, table::table};
use crate::counted::counted;
use crate::exit::Exit;
use crate::policy_paths::STDIN;
use crate::stdout::{self, out_line};
use anyhow::bail;
use portguard_policy::analysis::diff::{Change, diff};
use portguard_policy::analysis::space::{
    BindSpace, DecidedBy, EffectByRule, Row, callers_text, ports_text,
};
use portguard_policy::policy::{self, Diagnostics, GivenNames, NameService, Policy};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(
    after_long_help = "Compares what happens to binds, not text: a rule that is renamed, moved or rewritten \
    with the same meaning is not a change. `log` is not compared.\n\nExamples:\n  \
    portguard diff /etc/portguard/policies new-policies/\n  \
    git show HEAD:web.yaml | portguard diff - web.yaml"
)]
pub(super) struct Args {
    /// The old policy: a file or directory, or - for standard input
    old: PathBuf,
    /// The new policy: a file or directory, or - for standard input
    new: PathBuf,
    #[command(flatten)]
    host: ForHost,
    /// Print one JSON object per change
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if [&args.old, &args.new].map(|path| path.as_os_str() == STDIN) == [true; 2] {
        bail!("standard input is given twice: one policy must be a file");
    }
    // The same for both policies: a name means one user.
    let hosts_names = args.host.names()?;
    let load = |path: &Path| load(path, hosts_names.service());
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    hosts_names.note();
    let space = BindSpace::new(&[&old, &new])?;
    let rows = diff(&space)?;
    let mut names = old.given.clone();
    names.users.extend(new.given.users.clone());
    if args.json {
        for row in &rows {
            out_line!("{}", as_object(&space, row))?;
        }
    } else if !rows.is_empty() {
        stdout::text(&as_table(&space, &rows, &names))?;
    }
    if !args.json {
        match rows.len() {
            0 => out_line!("no bind is decided differently")?,
            count => out_line!("\n{}", counted(count, "change"))?,
        }
    }
    Ok(Exit::of(rows.is_empty()))
}

/// Warnings are left to `check`.
fn load(path: &Path, names: &dyn NameService) -> Result<Policy, Diagnostics> {
    Ok(policy::load(&[path.to_owned()], names)?.policy)
}

const HEADER: [&str; 9] = [
    "PORTS",
    "PROTOCOLS",
    "USERS",
    "GROUPS",
    "CGROUPS",
    "ADDRESSES",
    "NETNS",
    "OLD",
    "NEW",
];

fn as_table(space: &BindSpace<'_>, rows: &[Row<Change<'_>>], names: &GivenNames) -> String {
    let mut lines = Vec::new();
    for row in rows {
        for (ports, protocols) in ports_text(&row.ports) {
            lines.push(vec![
                ports,
                protocols,
                callers_text(&space.callers(&row.users), names),
                row.fields.groups.clone(),
                row.fields.cgroups.clone(),
                row.fields.addresses.clone(),
                row.value.netns.to_string(),
                done(&row.value.old),
                done(&row.value.new),
            ]);
        }
    }
    table(&HEADER, &lines)
}

fn done(EffectByRule { effect, by }: &EffectByRule<'_>) -> String {
    match by {
        DecidedBy::Rule(rule) => format!("{effect} by {rule}"),
        DecidedBy::Default => format!("{effect} by default"),
        DecidedBy::Nothing => format!("{effect}, not decided"),
    }
}

fn as_object(space: &BindSpace<'_>, row: &Row<Change<'_>>) -> Value {
    json!({
        "binds": objects::binds(space, row),
        "netns": row.value.netns.as_str(),
        "old": objects::effect(&row.value.old),
        "new": objects::effect(&row.value.new),
    })
}
