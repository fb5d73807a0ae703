//! `portguard doctor`: can this machine enforce?

use super::Exit;
use crate::kernel::{Condition, Enforcer, Environment, Hook, HookChoice, Severity};
use serde::Serialize;

#[derive(clap::Args)]
pub(super) struct Args {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    condition: &'a str,
    state: &'a str,
    found: &'a str,
    mend: Option<&'a str>,
}

/// # Errors
/// Where the report cannot be written as JSON.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let environment = Environment::probe();
    let mut conditions = environment.conditions().to_vec();
    conditions.push(trial(&environment));
    let works = conditions
        .iter()
        .all(|condition| condition.severity != Severity::Missing);
    let rows: Vec<Row<'_>> = conditions.iter().map(row).collect();
    if args.json {
        let report = serde_json::json!({ "works": works, "conditions": rows });
        println!("{report}");
    } else {
        for row in &rows {
            println!("{:<8} {:<38} {}", row.state, row.condition, row.found);
            if let Some(mend) = row.mend {
                println!("{:<8} {:<38} mend: {mend}", "", "");
            }
        }
    }
    Ok(if works {
        Exit::Success
    } else {
        Exit::Environment
    })
}

fn row(condition: &Condition) -> Row<'_> {
    Row {
        condition: condition.name,
        state: match condition.severity {
            Severity::Good => "ok",
            Severity::Warning => "warning",
            Severity::Missing => "missing",
        },
        found: &condition.found,
        mend: condition.mend.as_deref(),
    }
}

/// Loads and attaches the programs for a moment, with no policy: they let everything pass.
fn trial(environment: &Environment) -> Condition {
    let name = "the programs load and run";
    if environment.missing().next().is_some() {
        return Condition {
            name,
            severity: Severity::Missing,
            found: "not tried".into(),
            mend: Some("mend what is missing above first".into()),
        };
    }
    match Enforcer::start(environment, HookChoice::Auto) {
        Ok(enforcer) => {
            let grants = if enforcer.features().grants {
                "grants"
            } else {
                "no grants (Linux 5.12)"
            };
            match enforcer.hook() {
                Hook::Lsm => Condition {
                    name,
                    severity: Severity::Good,
                    found: format!("lsm and cgroup hooks, {grants}"),
                    mend: None,
                },
                Hook::Cgroup => Condition {
                    name,
                    severity: Severity::Warning,
                    found: format!("cgroup hooks only, {grants}"),
                    mend: enforcer
                        .fallback()
                        .map(|reason| format!("the LSM hook: {reason}")),
                },
            }
        }
        Err(error) => Condition {
            name,
            severity: Severity::Missing,
            found: error.to_string(),
            mend: None,
        },
    }
}

/// Prints what `run` cannot do without; says whether anything is missing.
pub(super) fn print_missing(environment: &Environment) -> bool {
    let mut any = false;
    for condition in environment.missing() {
        any = true;
        eprintln!("portguard: {}: {}", condition.name, condition.found);
        if let Some(mend) = &condition.mend {
            eprintln!("  {mend}");
        }
    }
    any
}
