//! `portguard check`: are these policy files valid, and do their tests pass?

use super::{Exit, Loading, counted, test_report};
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
    json: bool,
}

/// # Errors
/// Where the policy is too large to compile.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let color = std::io::stderr().is_terminal();
    let (policy, problems) = match args.loading.linted() {
        Ok(loaded) => (Some(loaded.policy), loaded.warnings),
        Err(problems) => (None, problems),
    };
    let good = policy.is_some() && !(args.strict && problems.count(Severity::Warning) > 0);
    if !args.json {
        eprint!("{}", problems.render(color));
        if policy.is_some() && !good {
            let warnings = counted(problems.count(Severity::Warning), "warning");
            eprintln!("portguard: {warnings}, treated as errors by --strict");
        }
    }
    let Some(policy) = policy else {
        if args.json {
            println!(
                "{}",
                json!({ "ok": false, "problems": as_objects(&problems) })
            );
        }
        return Ok(Exit::NotSo);
    };
    let tables = compile(&policy, 1)?;
    let outcomes = run_policy_tests(&policy, &tables)?;
    let ok = good && outcomes.iter().all(TestResult::holds);
    if args.json {
        let mut object = as_object(&tables, &outcomes, &problems);
        object["ok"] = json!(ok);
        if args.show {
            object["effective"] = json!(PolicyFile::from(&policy));
        }
        println!("{object}");
    } else {
        print(args, &policy, &tables, &outcomes);
    }
    Ok(Exit::of(ok))
}

fn print(args: &Args, policy: &Policy, tables: &Tables, outcomes: &[TestResult<'_>]) {
    let color = std::io::stderr().is_terminal();
    for outcome in outcomes.iter().filter(|outcome| !outcome.holds()) {
        eprint!("{}", test_report::as_text(outcome, color));
    }
    let summary = format!(
        "policy {}: {}, {}, {} of {} tests pass",
        tables.short_digest(),
        counted(tables.rule_count(), "rule"),
        counted(tables.user_count(), "user"),
        outcomes.iter().filter(|outcome| outcome.holds()).count(),
        outcomes.len(),
    );
    if args.show {
        // So that what is shown can be loaded again.
        eprintln!("{summary}");
        print!("{}", PolicyFile::from(policy));
    } else {
        println!("{summary}");
    }
}

fn as_object(tables: &Tables, outcomes: &[TestResult<'_>], problems: &Diagnostics) -> Value {
    json!({
        "policy": tables.short_digest(),
        "rules": tables.rule_count(),
        "users": tables.user_count(),
        "problems": as_objects(problems),
        "tests": outcomes.iter().map(test_report::as_object).collect::<Vec<_>>(),
    })
}

fn as_objects(problems: &Diagnostics) -> Vec<Value> {
    let object = |problem: &portguard_policy::policy::Diagnostic| {
        json!({
            "severity": match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "file": problem.place.file,
            "line": problem.place.line,
            "column": problem.place.column,
            "message": problem.message,
            "help": problem.help,
        })
    };
    problems.iter().map(object).collect()
}
