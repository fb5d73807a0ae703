//! `portguard test`: do the policy's tests pass?

use super::{Loading, test_report};
use crate::exit::Exit;
use crate::stderr::log_line;
use crate::stdout::{self, out_line};
use anyhow::Context as _;
use portguard_policy::analysis::policy_tests::run_policy_tests;
use portguard_policy::compile::compile;
use std::io::IsTerminal as _;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_long_help = "Tests are listed under `tests:` in the policy itself or in a file of their own.\n\nExamples:\n  \
    portguard test /etc/portguard/policies\n  \
    portguard test web.yaml web-tests.yaml --junit report.xml"
)]
pub(super) struct Args {
    #[command(flatten)]
    loading: Loading,
    /// Write a JUnit report; - for standard output
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print one JSON object per test
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let policy = args.loading.load()?;
    let tables = compile(&policy)?;
    let results = run_policy_tests(&policy, &tables)?;
    let color = std::io::stdout().is_terminal();
    let to_stdout = args
        .junit
        .as_deref()
        .is_some_and(|path| path.as_os_str() == "-");
    for result in &results {
        if args.json {
            out_line!("{}", test_report::as_object(result))?;
        } else if !result.holds() && !to_stdout {
            stdout::text(&test_report::as_text(result, color))?;
        }
    }
    if let Some(path) = &args.junit {
        let report = test_report::as_junit(&results).to_string()?;
        if to_stdout {
            stdout::text(&report.to_string())?;
        } else {
            std::fs::write(path, report)
                .with_context(|| format!("writing the JUnit report {}", path.display()))?;
        }
    }
    let held = results.iter().filter(|result| result.holds()).count();
    log_line!("{held} of {} tests pass", results.len());
    if results.is_empty() {
        log_line!("portguard: the policy has no tests; add some under `tests:`");
        return Ok(Exit::NotSo);
    }
    Ok(Exit::of(held == results.len()))
}
