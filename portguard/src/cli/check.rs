//! `portguard check`: are these policy files valid, and do their tests pass?

use super::{Loading, objects, test_report};
use crate::counted::counted;
use crate::exit::Exit;
use crate::stderr::{self, log_line};
use crate::stdout::{self, out_line};
use portguard_policy::analysis::policy_tests::{TestResult, run_policy_tests};
use portguard_policy::compile::{Tables, compile};
use portguard_policy::policy::{Diagnostics, Policy, Severity};
use portguard_policy::yaml::PolicyFile;
use serde_json::{Value, json};
use std::io::IsTerminal as _;

#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard check /etc/portguard/policies\n  \
    portguard check --host web-7 --show fleet/    # the policy as web-7 gets it")]
pub(super) struct Args {
    #[command(flatten)]
    loading: Loading,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Print the merged policy, with the file and line of every value
    #[arg(long)]
    show: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let color = std::io::stderr().is_terminal();
    let (policy, problems) = match args.loading.linted() {
        Ok(loaded) => (Some(loaded.policy), loaded.warnings),
        Err(error) => (None, error.downcast::<Diagnostics>()?),
    };
    let good = policy.is_some() && !(args.strict && problems.count(Severity::Warning) > 0);
    if !args.json {
        stderr::text(&problems.render(color));
        if policy.is_some() && !good {
            let warnings = counted(problems.count(Severity::Warning), "warning");
            log_line!("portguard: {warnings}, treated as errors by --strict");
        }
    }
    let Some(policy) = policy else {
        if args.json {
            out_line!("{}", as_object(None, &[], &problems))?;
        }
        return Ok(Exit::NotSo);
    };
    let tables = compile(&policy)?;
    let results = run_policy_tests(&policy, &tables)?;
    let ok = good && results.iter().all(TestResult::holds);
    if args.json {
        let mut object = as_object(Some(&tables), &results, &problems);
        object["ok"] = json!(ok);
        if args.show {
            object["effective"] = json!(PolicyFile::from(&policy));
        }
        out_line!("{object}")?;
    } else {
        print(args, &policy, &tables, &results)?;
    }
    Ok(Exit::of(ok))
}

fn print(
    args: &Args,
    policy: &Policy,
    tables: &Tables,
    results: &[TestResult<'_>],
) -> anyhow::Result<()> {
    let color = std::io::stderr().is_terminal();
    for result in results.iter().filter(|result| !result.holds()) {
        stderr::text(&test_report::as_text(result, color));
    }
    let summary = format!(
        "policy {}: {}, {}, {} of {} tests pass",
        tables.short_digest(),
        counted(tables.rule_names.len(), "rule"),
        counted(tables.user_count, "user"),
        results.iter().filter(|result| result.holds()).count(),
        results.len(),
    );
    if args.show {
        // So that what is shown can be loaded again.
        log_line!("{summary}");
        stdout::text(&PolicyFile::from(policy).to_string())?;
    } else {
        out_line!("{summary}")?;
    }
    Ok(())
}

/// `tables` are `None` where the policy has errors.
fn as_object(
    tables: Option<&Tables>,
    results: &[TestResult<'_>],
    diagnostics: &Diagnostics,
) -> Value {
    json!({
        "ok": false,
        "policy": tables.map(Tables::short_digest),
        "rules": tables.map(|tables| tables.rule_names.len()),
        "users": tables.map(|tables| tables.user_count),
        "problems": objects::diagnostics(diagnostics),
        "tests": results.iter().map(test_report::as_object).collect::<Vec<_>>(),
    })
}
